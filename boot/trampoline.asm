; The start of another CPU: from real mode to ap_start_high, in the higher half.
;
; arch/i386/irq/trampoline.cpp copies this to a page below 1 MiB and fills in the data at its end. A start-up interrupt
; makes a CPU begin at the page's first byte in real mode, CS = page / 16 (SDM vol. 3, 8.4.4.1). So this code is
; position-independent: its base is CS in real mode, EBX afterwards. There is no stack.
;
; The CPU takes the ticket before it touches memory outside this page: a CPU that is no longer expected stays here.

%include "boot/layout.inc"

CODE            equ 8                       ; selectors of the GDT below
DATA            equ 16

CR0_PE          equ 1 << 0
EFER            equ 0xC0000080

%define at(label) ((label) - trampoline)

section .rodata align=16
global  trampoline, trampoline_end

bits 16
trampoline:
        cli
        cld
        mov     ax, cs
        mov     ds, ax
        movzx   ebx, ax
        shl     ebx, 4                      ; base address of this page

        lea     eax, [ebx + at(gdt)]
        mov     [at(gdt_pointer) + 2], eax
        lea     eax, [ebx + at(protected)]
        mov     [at(far_pointer)], eax
        o32 lgdt [at(gdt_pointer)]
        mov     eax, cr0
        or      al, CR0_PE
        mov     cr0, eax
        jmp     far dword [at(far_pointer)]

bits 32
protected:
        mov     eax, DATA
        mov     ds, eax
        mov     es, eax
        mov     ss, eax

        xor     eax, eax
        xchg    [ebx + at(ticket)], eax     ; only one CPU gets it
        test    eax, eax
        jz      .too_late
        mov     ebp, eax

        ; The control bits of the boot CPU, except those of features that this CPU may lack; global pages are enabled
        ; after paging in any case (2.5, "PGE"). EFER is written whole before paging is turned on, so before an entry with
        ; NX is used.
        mov     eax, [ebx + at(wanted_cr4)]
        mov     cr4, eax
        mov     eax, [ebx + at(wanted_root)]
        mov     cr3, eax
        cmp     dword [ebx + at(has_efer)], 0
        je      .no_efer
        mov     eax, [ebx + at(wanted_efer)]
        mov     ecx, EFER
        xor     edx, edx
        wrmsr
.no_efer:
        mov     eax, [ebx + at(wanted_cr0)]
        mov     cr0, eax                    ; paging is on; this page is identity-mapped
        mov     eax, ap_start_high
        jmp     eax

.too_late:
        hlt
        jmp     .too_late

align 8
gdt:    dq      0
        dq      0x00CF9A000000FFFF          ; flat code, flat data (SDM vol. 3, 3.4.5)
        dq      0x00CF92000000FFFF
gdt_pointer:
        dw      gdt_pointer - gdt - 1
        dd      0                           ; filled in above, as is the next one
far_pointer:
        dd      0
        dw      CODE

align 4                                     ; TrampolineData in trampoline.cpp
trampoline_data:
ticket:         dd 0                        ; the address of a Ticket (trampoline.hpp), or 0
wanted_cr0:     dd 0
wanted_cr4:     dd 0
wanted_root:    dd 0
has_efer:       dd 0
wanted_efer:    dd 0
trampoline_end:

extern  ap_entry

section .text
; EBP: the ticket. The current tables are those that trampoline.cpp made for the start; now load the kernel's own.
ap_start_high:
        mov     eax, [ebp + 0]              ; struct Ticket of trampoline.hpp: root, stack
        mov     cr3, eax
        mov     esp, [ebp + 4]
        push    ebp
        xor     ebp, ebp                    ; end of the chain of frame pointers
        call    ap_entry                    ; ap_entry(ticket) does not return
        ud2

section .rodata
global  trampoline_data_offset
trampoline_data_offset:
        dd      at(trampoline_data)
