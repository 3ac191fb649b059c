; Accesses every page of the upper gigabyte from ring 3: reads it, writes it, and jumps to it. Each access must fault. The
; self-test (tests/guest/user_test.cpp) gets each fault, counts it, and continues the program at the address in EBX. Accesses
; that do not fault are counted here. Exits with 0 if every access has faulted.
;
; In assembly, because the registers are the interface: ESI the address, EBX where to continue, EDI the kind of access (0 read,
; 1 write, 2 jump).

bits 32

SYS_EXIT_GROUP  equ 252
FIRST           equ 0xC0000000
PAGE            equ 4096

section .text
global  _start
_start:
        xor     ebp, ebp                    ; accesses without a fault
        xor     edi, edi
        mov     esi, FIRST
.read:  mov     ebx, .read_next
        mov     eax, [esi]
        inc     ebp
.read_next:
        add     esi, PAGE
        jnz     .read

        mov     edi, 1
        mov     esi, FIRST
.write: mov     ebx, .write_next
        mov     dword [esi + PAGE - 4], 0x6b6b6b6b
        inc     ebp
.write_next:
        add     esi, PAGE
        jnz     .write

        ; Across the border from the user's part into the kernel's.
        mov     edi, 0
        mov     esi, FIRST
        mov     ebx, .border_next
        mov     eax, [esi - 2]
        inc     ebp
.border_next:
        mov     edi, 2
        mov     esi, FIRST
.jump:  mov     ebx, .jump_next
        call    esi
        inc     ebp                         ; the call returned
.jump_next:
        mov     esp, [stack]                ; the return address that was not used
        add     esi, PAGE
        jnz     .jump

        test    ebp, ebp
        setnz   bl
        movzx   ebx, bl
        mov     eax, SYS_EXIT_GROUP
        int     0x80
        ud2

section .data
stack:  dd      stack_end

section .bss
        resb    4096
stack_end:
