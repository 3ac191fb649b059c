; The entry point of a program, and of a thread: tests/user/user.hpp.

bits 32

extern  begin
section .text

; ESP: argc, argv, environment, auxiliary vector (System V ABI, i386 supplement).
global  _start
_start:
        xor     ebp, ebp
        mov     eax, esp
        push    eax                         ; keeps the stack a multiple of 16 at the call
        push    eax
        push    eax
        push    eax
        call    begin                       ; begin(stack), it does not return
        ud2

SYS_EXIT        equ 1
SYS_CLONE       equ 120

; int clone_thread(u32 flags, void* stack_top, int* parent_tid, void* tls, int* child_tid,
;                  void (*run)(void*), void* argument)
; The new thread finds run and argument on its own new stack, which has no return address.
global  clone_thread
clone_thread:
        push    ebx
        push    esi
        push    edi
        mov     ebx, [esp + 16]
        mov     ecx, [esp + 20]
        mov     eax, [esp + 40]             ; argument
        mov     [ecx - 16], eax
        mov     eax, [esp + 36]             ; run
        mov     [ecx - 20], eax
        sub     ecx, 20                     ; a multiple of 16 at the call
        mov     edx, [esp + 24]
        mov     esi, [esp + 28]
        mov     edi, [esp + 32]
        mov     eax, SYS_CLONE
        int     0x80
        test    eax, eax
        jz      .new
        pop     edi
        pop     esi
        pop     ebx
        ret
.new:   xor     ebp, ebp
        pop     eax
        call    eax                         ; the argument is on the stack already
        mov     eax, SYS_EXIT
        xor     ebx, ebx
        int     0x80
        ud2
