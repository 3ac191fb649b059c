; The start of the shim, and its jump into loft, with wrong values in all registers that multiboot does not define.

bits 32

MAGIC   equ 0x1BADB002
FLAGS   equ 3                       ; page-aligned modules, a memory map

section .multiboot progbits alloc noexec nowrite align=4
        dd      MAGIC, FLAGS, -(MAGIC + FLAGS)

extern  shim_main

section .text
global  entry
entry:
        cli
        cld
        mov     esp, stack_top
        push    ebx
        push    eax
        call    shim_main
        ud2

; [[noreturn]] void enter_loft(u32 magic, u32 info, u32 where)
; The flat segments come from a GDT that does not exist any more when loft starts: loft must not reload a segment register
; before it has its own GDT (multiboot 0.6.96, 3.2).
global  enter_loft
enter_loft:
        mov     eax, [esp + 4]
        mov     ebx, [esp + 8]
        mov     ecx, [esp + 12]
        mov     [target], ecx
        lgdt    [gdt_pointer]
        jmp     CODE:.flat
.flat:  mov     cx, DATA
        mov     ds, cx
        mov     es, cx
        mov     fs, cx
        mov     gs, cx
        mov     ss, cx
        mov     edi, gdt
        mov     ecx, gdt_end - gdt
        push    eax
        mov     al, 0xA5
        rep     stosb
        pop     eax
        lidt    [no_idt]            ; an exception now is a triple fault: QEMU ends, and the runner reports it
        mov     ecx, 0xDEADC0DE
        mov     edx, 0xDEADD00D
        mov     esi, 0xDEAD51DE
        mov     edi, 0xDEADD1CE
        mov     ebp, 0xDEADBA5E
        mov     esp, 0xDEAD57AC
        std                         ; string instructions run backwards
        jmp     [target]

global  return_at_once
return_at_once:
        iretd

section .data
align 8
        times 4 dq 0                ; so that the selectors differ from loft's
gdt:    dq      0
code:   dq      0x00CF9A000000FFFF  ; flat 4 GiB, code
data:   dq      0x00CF92000000FFFF  ; flat 4 GiB, data
gdt_end:
CODE    equ     code - gdt + 32
DATA    equ     data - gdt + 32
gdt_pointer:
        dw      gdt_end - gdt + 32 - 1
        dd      gdt - 32
no_idt: dw      0
        dd      0

section .bss
align 16
target: resd    1
        resb    16384
stack_top:
