; The 256 entry points of the IDT, and what they share: build a TrapFrame (traps.hpp), call trap_dispatch, go
; back.
;
; The CPU has pushed EFLAGS, CS, EIP, for some exceptions an error code, and before them SS and ESP if it came
; from ring 3 (SDM vol. 3, 6.12.1). Every gate is an interrupt gate: IF and TF are clear from the first
; instruction on, so a handler is neither interrupted nor stepped.
;
; A program chooses its segment registers, and may take the descriptor behind one away while it is in the kernel: then
; the instruction that loads it on the way back faults. Each of those has an entry in the table of probes (extable.hpp).

bits 32

KERNEL_DATA     equ 0x10                    ; selectors: descriptors.hpp
PER_CPU         equ 0x28
FRAME_EIP       equ 14 * 4
GENERAL_PROTECTION equ 13

extern  trap_dispatch

%macro MAY_FAULT 2                          ; a fault at %1 goes on at %2
        [section .extable.probes progbits alloc noexec nowrite align=4]
        dd      %1, %2
        __?SECT?__
%endmacro
%macro POP_SEGMENT 1
%%load: pop     %1
        MAY_FAULT %%load, %%null
        [section .text.fixup progbits alloc exec nowrite align=4]
%%null: mov     dword [esp], 0              ; the null selector always loads; using it is the program's fault
        jmp     %%load
        __?SECT?__
%endmacro

section .text

; Exceptions that push an error code: #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX (SDM table 6-1; AMD APM vol. 2,
; table 8-1).
%define HAS_ERROR_CODE(v) \
        ((v) == 8 || ((v) >= 10 && (v) <= 14) || (v) == 17 || (v) == 21 || (v) == 29 || (v) == 30)

%macro ENTRY_POINT 1
entry_%1:
    %if !HAS_ERROR_CODE(%1)
        push    dword 0
    %endif
        push    dword %1
        jmp     common_entry
%endmacro

%assign vector 0
%rep 256
        ENTRY_POINT %[vector]
    %assign vector vector + 1
%endrep

common_entry:
        pushad
        push    ds
        push    es
        push    fs
        push    gs
        cld
        mov     eax, KERNEL_DATA
        mov     ds, eax
        mov     es, eax
        mov     eax, PER_CPU
        mov     fs, eax
        xor     eax, eax                    ; what a program had in gs may be gone from the GDT before it is back
        mov     gs, eax
        mov     eax, esp                    ; the frame
        push    dword [eax + FRAME_EIP]     ; a link as if the interrupted code had called us: the walk over
        push    ebp                         ; frame pointers finds it (stacktrace.hpp)
        mov     ebp, esp
        push    eax
        call    trap_dispatch
        add     esp, 3 * 4
leave:  POP_SEGMENT gs
        POP_SEGMENT fs
        POP_SEGMENT es
        POP_SEGMENT ds
        popad
        add     esp, 2 * 4                  ; vector, error code
.iret:  iretd
        MAY_FAULT .iret, .cannot
        ; SS, or EIP beyond what CS allows. What should have been loaded is still on the stack, as a trap would have left it:
        ; it becomes a fault of the program.
.cannot:
        push    dword 0
        push    dword GENERAL_PROTECTION
        jmp     common_entry

; void enter_user(const TrapFrame* frame)
global  enter_user
enter_user:
        mov     esp, [esp + 4]
        xor     ebp, ebp
        jmp     leave

section .rodata align=4
global  trap_entries
trap_entries:                               ; for the IDT (descriptors.cpp)
%assign vector 0
%rep 256
        dd      entry_%[vector]
    %assign vector vector + 1
%endrep
