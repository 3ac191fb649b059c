; The first instructions: from the loader's 32-bit code without paging into kernel_main, in the higher half.
;
; A multiboot loader promises (3.2): protected mode, flat 4 GiB segments, paging off, EAX = magic, EBX = physical
; address of its information. Nothing else: no stack, no GDT that may be reloaded, any EFLAGS, any control bits. Missing
; features that would make later steps fault are detected here, where a refusal can still be printed.

bits 32
%include "boot/layout.inc"

extern  refuse, refuse_begin, refuse_print, refuse_end
extern  build_boot_tables, boot_root
extern  __boot_stack_top
extern  kernel_main

LOADER_MAGIC    equ 0x2BADB002

EFLAGS_ID       equ 1 << 21                 ; can be changed only if CPUID exists (SDM vol. 1, 20.1)

; CPUID leaf 1, EDX (SDM vol. 2, "CPUID"); the names below and arch/i386/isa/cpuid.hpp have the same bits.
CPUID_PSE       equ 1 << 3                  ; 4 MiB pages: boot tables of the two-level format
CPUID_TSC       equ 1 << 4
CPUID_MSR       equ 1 << 5                  ; access to the APIC base and to EFER
CPUID_PAE       equ 1 << 6
CPUID_CX8       equ 1 << 8                  ; 64-bit entries are changed by cmpxchg8b
CPUID_APIC      equ 1 << 9
CPUID_CMOV      equ 1 << 15                 ; the compiler uses it: -march=i686
CPUID_SYSCALL   equ 1 << 11                 ; leaf 8000'0001: each of these three implies EFER
CPUID_NX        equ 1 << 20
CPUID_LM        equ 1 << 29
EFER            equ 0xC0000080
DR7_NOTHING     equ 1 << 10                 ; no breakpoint; the bit is always 1 (SDM vol. 3, 17.2.4)
CPUID_REQUIRED  equ CPUID_PSE | CPUID_TSC | CPUID_MSR | CPUID_CX8 | CPUID_APIC | CPUID_CMOV | \
                      CPUID_PAE * LOFT_PAE

; CR0 and CR4 are written whole, so that no bit of the loader's remains (SDM vol. 3, 2.5). Caches on (CD, NW clear). EM:
; an x87 or SSE instruction in the kernel traps instead of corrupting user state.
CR0_PE          equ 1 << 0
CR0_EM          equ 1 << 2
CR0_ET          equ 1 << 4
CR0_NE          equ 1 << 5
CR0_WP          equ 1 << 16                 ; the kernel, too, cannot write read-only pages
CR0_PG          equ 1 << 31
CR0_VALUE       equ CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_EM | CR0_PE
CR4_PSE         equ 1 << 4
CR4_PAE         equ 1 << 5
CR4_VALUE       equ CR4_PSE | CR4_PAE * LOFT_PAE

CODE            equ 8                       ; selectors of the first GDT: as in the final one (selectors.hpp)
NMI             equ 2                       ; its vector
INTERRUPT_GATE  equ 0x8E00                  ; present, ring 0 (6.11)

section BOOT_SECTION
global  start
start:
        cli
        cld
        mov     esp, DR7_NOTHING            ; a breakpoint set by earlier software would be a triple fault
        mov     dr7, esp
        mov     esp, phys(__boot_stack_top)

        ; An NMI cannot be turned off. Until descriptors_init loads the final tables it is ignored; without a gate it
        ; would be a triple fault. IRET reloads CS, so CS must come from a GDT that exists. EAX and EBX are kept.
        lgdt    [first_gdt_pointer]
        jmp     CODE:.own_gdt
.own_gdt:
        mov     ecx, ignore_nmi
        movzx   edx, cx
        or      edx, CODE << 16
        mov     [phys(first_idt) + NMI * 8], edx
        mov     cx, INTERRUPT_GATE
        mov     [phys(first_idt) + NMI * 8 + 4], ecx
        lidt    [first_idt_pointer]

        push    dword 0                     ; no single step, no nested task, no alignment checks, IOPL 0
        popfd
        mov     ebp, eax                    ; the magic number; EBX keeps the address of the information

        mov     esi, text_magic
        cmp     ebp, LOADER_MAGIC
        jne     refuse

        call    has_cpuid
        mov     esi, text_cpuid
        jz      refuse
        push    ebx                         ; cpuid overwrites it
        mov     eax, 1
        cpuid
        pop     ebx
        not     edx
        and     edx, CPUID_REQUIRED         ; the missing features
        jnz     refuse_cpu

        rdtsc                               ; time zero of the log
        mov     [phys(boot_tsc)], eax
        mov     [phys(boot_tsc) + 4], edx

        call    clear_efer
        call    build_boot_tables
        mov     eax, CR4_VALUE
        mov     cr4, eax
        mov     eax, phys(boot_root)
        mov     cr3, eax
        mov     eax, CR0_VALUE
        mov     cr0, eax                    ; paging is on; this code continues in the identity map
        mov     eax, start_high
        jmp     eax

; Also with paging on: it lies in the identity map, as do the tables.
ignore_nmi:
        iretd

align 8
first_gdt:
        dq      0
        dq      0x00CF9B000000FFFF          ; flat code, accessed: the CPU does not write it (3.4.5)
first_gdt_pointer:
        dw      first_gdt_pointer - first_gdt - 1
        dd      first_gdt
first_idt_pointer:
        dw      (NMI + 1) * 8 - 1           ; any other exception is a triple fault
        dd      phys(first_idt)

; Returns with ZF set if this CPU has no CPUID, or no leaf 1.
has_cpuid:
        pushfd
        xor     dword [esp], EFLAGS_ID
        popfd
        pushfd
        pop     eax
        push    dword 0                     ; restore EFLAGS
        popfd
        test    eax, EFLAGS_ID
        jz      .done
        push    ebx
        xor     eax, eax
        cpuid                               ; EAX: the highest leaf
        pop     ebx
        test    eax, eax
.done:  ret

; With EFER.LME set, enabling paging would activate long mode (SDM vol. 3, 9.8.5). Changes EAX, ECX, EDX.
clear_efer:
        push    ebx
        mov     eax, 0x80000000
        cpuid                               ; the highest extended leaf; undefined if there is none
        sub     eax, 0x80000001
        cmp     eax, 0xFFFF
        ja      .done
        mov     eax, 0x80000001
        cpuid
        test    edx, CPUID_SYSCALL | CPUID_NX | CPUID_LM
        jz      .done
        mov     ecx, EFER
        xor     eax, eax
        xor     edx, edx
        wrmsr
.done:  pop     ebx
        ret

; EDX: the required features that the CPU lacks. Prints the name of each.
refuse_cpu:
        mov     ebx, edx
        call    refuse_begin
        mov     esi, text_lacks
        call    refuse_print
        mov     ebp, feature_names
.next:  test    ebx, [ebp]
        jz      .has
        mov     esi, [ebp + 4]
        call    refuse_print
.has:   add     ebp, 8
        cmp     ebp, feature_names_end
        jb      .next
        mov     esi, text_other_cpu
        call    refuse_print
        jmp     refuse_end

align 4
feature_names:
        dd      CPUID_PSE, name_pse
        dd      CPUID_TSC, name_tsc
        dd      CPUID_MSR, name_msr
        dd      CPUID_PAE, name_pae
        dd      CPUID_CX8, name_cx8
        dd      CPUID_APIC, name_apic
        dd      CPUID_CMOV, name_cmov
feature_names_end:

name_pse:       db " PSE (4 MiB pages)", 0
name_tsc:       db " TSC (time-stamp counter)", 0
name_msr:       db " MSR (model-specific registers)", 0
name_pae:       db " PAE (physical addresses above 4 GiB)", 0
name_cx8:       db " CX8 (cmpxchg8b)", 0
name_apic:      db " APIC (local interrupt controller)", 0
name_cmov:      db " CMOV", 0

text_magic:
        db      "EAX does not hold the multiboot magic 2BADB002: the loader does not speak multiboot 1.", 10
        db      "Start loft.elf through GRUB's `multiboot` command or QEMU's `-kernel`.", 10, 0
text_cpuid:
        db      "this CPU has no CPUID instruction, or none that lists features.", 10
        db      "Use a Pentium Pro or later (in QEMU: `-cpu max`).", 10, 0
text_lacks:
        db      "this CPU lacks", 0
text_other_cpu:
        db      ".", 10
%if LOFT_PAE
        db      "Use another CPU (in QEMU: `-cpu max`);", 10
        db      "if it is only PAE that is missing, a kernel built with HIGHMEM=4g runs here.", 10, 0
%else
        db      "Use another CPU (in QEMU: `-cpu max`).", 10, 0
%endif

section .text
start_high:
        mov     esp, __boot_stack_top
        push    ebx
        push    ebp
        xor     ebp, ebp                    ; end of the chain of frame pointers
        call    kernel_main                 ; kernel_main(magic, information) does not return
        ud2

section .bss align=8
global  boot_tsc
boot_tsc:       resq 1
first_idt:      resq NMI + 1                ; the loader has cleared it
