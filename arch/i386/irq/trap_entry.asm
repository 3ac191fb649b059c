; The 256 entry points of the IDT, and their common code: build a TrapFrame (trap_frame.hpp), call trap_dispatch,
; return.
;
; The CPU has pushed EFLAGS, CS, EIP, for some exceptions an error code, and before them SS and ESP if it came from ring
; 3 (SDM vol. 3, 6.12.1). Every gate is an interrupt gate: IF and TF are clear from the first instruction on, so a
; handler is neither interrupted nor single-stepped. DF and AC are as the interrupted code had them: C++ needs DF clear,
; and with SMAP a set AC opens user memory. The common code clears both; IRET restores them.
;
; A program chooses its segment registers, and another of its threads may remove a descriptor while it is in the kernel:
; then the instruction that loads the register on the way back faults. Each of these instructions has an entry in the
; table of probes (extable.hpp).
;
; Debuggers unwind a stack through this code by the information in .debug_frame (DWARF 4, 6.4), which NASM does not
; generate: EIP_AT beside each push and pop gives the distance from ESP up to the interrupted EIP. gdb calls such a
; frame a signal handler.

bits 32

KERNEL_DATA     equ 0x10                    ; selectors.hpp
PER_CPU         equ 0x28
FRAME_EIP       equ 14 * 4
GENERAL_PROTECTION equ 13

extern  trap_dispatch

%macro MAY_FAULT 2                          ; after a fault at %1, continue at %2
        [section .extable.probes progbits alloc noexec nowrite align=4]
        dd      %1, %2
        __?SECT?__
%endmacro
; CLAC where there is SMAP, otherwise a nop (isa/smap.hpp).
%macro CLOSE_USER_MEMORY 0
%%place:db      0x8d, 0x76, 0x00
        [section .smap progbits alloc noexec nowrite align=4]
        dd      %%place, 0xca010f
        __?SECT?__
%endmacro
; The canonical frame address (CFA) is the address of the interrupted EIP.
[section .debug_frame progbits noalloc noexec nowrite align=4]
cie:    dd      .end - .begin
.begin: dd      0xffffffff                  ; a CIE
        db      4, "zS", 0                  ; version; S: the caller may be interrupted at any instruction
        db      4, 0                        ; bytes of an address, of a segment selector
        db      1, 0x7c, 8                  ; code factor, data factor (-4), return address column: EIP
        db      0                           ; bytes of augmentation data
        db      0x0c, 4, 0                  ; def_cfa: ESP + 0
        db      0x80 | 8, 0                 ; EIP at CFA
        db      0x11, 41, 0x7f              ; offset_extended_sf: CS at CFA + 4
        db      0x11, 9, 0x7e               ; EFLAGS at CFA + 8
        db      0x16, 4, .after - .before   ; val_expression: ESP is CFA + 12, or the word there if CS is of ring 3
.before:db      0x12, 0x23, 4, 0x06         ; CFA: dup, plus_uconst 4, deref
        db      0x33, 0x1a                  ; lit3, and
        db      0x16, 0x23, 12, 0x16        ; swap, plus_uconst 12, swap
        db      0x28, 3, 0                  ; bra to the deref
        db      0x2f, 1, 0                  ; skip it
        db      0x06                        ; deref
.after:
        align   4, db 0
.end:
fde:    dd      .end - .begin
.begin: dd      cie
        dd      entry_0, enter_user - entry_0
        db      0                           ; bytes of augmentation data; the instructions follow
%macro EIP_AT 1                             ; distance in bytes from here on (below 128: one byte of LEB128)
%%here:
        [section .debug_frame]
        db      0x01                        ; set_loc
        dd      %%here
        db      0x0e, %1                    ; def_cfa_offset
        __?SECT?__
%endmacro
%macro REGISTERS_AT 1                       ; 0x80: PUSHAD has stored them below the vector; 0xc0: they are unchanged
        [section .debug_frame]
    %if %1 == 0x80                          ; offset, in words below CFA
        db      %1 | 0, 3, %1 | 1, 4, %1 | 2, 5, %1 | 3, 6, %1 | 5, 8, %1 | 6, 9, %1 | 7, 10
    %else                                   ; restore
        db      %1 | 0, %1 | 1, %1 | 2, %1 | 3, %1 | 5, %1 | 6, %1 | 7
    %endif
        __?SECT?__
%endmacro

%macro POP_SEGMENT 2                        ; register, distance before
%%load: pop     %1
        EIP_AT  %2 - 4
        MAY_FAULT %%load, %%null
        [section .text.fixup progbits alloc exec nowrite align=4]
%%null: mov     dword [esp], 0              ; the null selector always loads; if the program uses it, the program faults
        jmp     %%load
        __?SECT?__
%endmacro

section .text

; Exceptions that push an error code: #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX (SDM table 6-1; AMD APM vol. 2, table
; 8-1).
%define HAS_ERROR_CODE(v) \
        ((v) == 8 || ((v) >= 10 && (v) <= 14) || (v) == 17 || (v) == 21 || (v) == 29 || (v) == 30)

%macro ENTRY_POINT 1
entry_%1:
    %if !HAS_ERROR_CODE(%1)
        EIP_AT  0
        push    dword 0
    %endif
        EIP_AT  4
        push    dword %1
        EIP_AT  8
        jmp     common_entry
%endmacro

%assign vector 0
%rep 256
        ENTRY_POINT %[vector]
    %assign vector vector + 1
%endrep

common_entry:
        pushad
        EIP_AT  40
        REGISTERS_AT 0x80
        push    ds
        EIP_AT  44
        push    es
        EIP_AT  48
        push    fs
        EIP_AT  52
        push    gs
        EIP_AT  56
        cld                                 ; the interrupted code has any flags: those of a program, or of a user copy
        CLOSE_USER_MEMORY
        mov     eax, KERNEL_DATA
        mov     ds, eax
        mov     es, eax
        mov     eax, PER_CPU
        mov     fs, eax
        xor     eax, eax                    ; the program's gs may be invalid by now: do not keep it
        mov     gs, eax
        mov     eax, esp                    ; the frame
        push    dword [eax + FRAME_EIP]     ; a frame as if the interrupted code had called: the chain of
        EIP_AT  60
        push    ebp                         ; frame pointers continues through it (stacktrace.hpp)
        EIP_AT  64
        mov     ebp, esp
        push    eax
        EIP_AT  68
        call    trap_dispatch
        add     esp, 3 * 4
        EIP_AT  56
leave:  POP_SEGMENT gs, 56
        POP_SEGMENT fs, 52
        POP_SEGMENT es, 48
        POP_SEGMENT ds, 44
        popad
        EIP_AT  8
        REGISTERS_AT 0xc0
        add     esp, 2 * 4                  ; vector, error code
        EIP_AT  0
.iret:  iretd
        MAY_FAULT .iret, .cannot
        ; SS cannot be loaded, or EIP is beyond the limit of CS. The values are still on the stack, as after a trap:
        ; this becomes a fault of the program.
.cannot:
        push    dword 0
        EIP_AT  4
        push    dword GENERAL_PROTECTION
        EIP_AT  8
        jmp     common_entry

; void enter_user(const TrapFrame* frame)
global  enter_user
enter_user:
        mov     esp, [esp + 4]
        xor     ebp, ebp
        jmp     leave

        [section .debug_frame]
        align   4, db 0                     ; DW_CFA_nop
fde.end:
section .rodata align=4
global  trap_entries
trap_entries:                               ; for the IDT (descriptors.cpp)
%assign vector 0
%rep 256
        dd      entry_%[vector]
    %assign vector vector + 1
%endrep
