; Touches every page of the upper gigabyte from ring 3: reads it, writes it, and jumps to it. Each touch has to fault; the
; self-test (tests/guest/user_test.cpp) is asked about the fault, counts it, and lets the program go on where EBX says. What does
; not fault is counted here. Ends with 0 if every touch has faulted.
;
; In assembly, because the registers are the interface: ESI the address, EBX where to go on, EDI what is tried (0 read, 1 write,
; 2 jump).

bits 32

SYS_EXIT_GROUP  equ 252
FIRST           equ 0xC0000000
PAGE            equ 4096

section .text
global  _start
_start:
        xor     ebp, ebp                    ; touches that went well
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

        ; From the last bytes of the user's part into the kernel's.
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
        inc     ebp                         ; it came back
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
