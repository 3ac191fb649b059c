; Switching kernel stacks: switch.hpp.

bits 32

section .text

; void switch_stack(u32* from, u32 to). The callee-saved registers (System V ABI, i386: EBX, ESI, EDI, EBP) stay on the
; stack that is left.
global  switch_stack
switch_stack:
        mov     eax, [esp + 4]
        mov     ecx, [esp + 8]
        push    ebp
        push    ebx
        push    esi
        push    edi
        mov     [eax], esp
        mov     esp, ecx
        pop     edi
        pop     esi
        pop     ebx
        pop     ebp
        ret

; A stack made by prepare_stack begins here: entry, then its argument. The argument lies where a function expects it,
; above the return address, which is not used.
global  begin_on_stack
begin_on_stack:
        pop     eax
        call    eax
        ud2
