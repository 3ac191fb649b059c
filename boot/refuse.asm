; Refusal to start: usable without paging, interrupts and C++.
;
; Prints the message on COM1, the VGA text screen and port 0xE9, then writes the status "refused" to QEMU's
; isa-debug-exit and Bochs's shutdown port. Without these devices the CPU halts with the message on the screen. Needs
; only a stack.

bits 32
%include "boot/layout.inc"

COM1            equ 0x3F8
LSR             equ COM1 + 5                ; line status; bit 5: the transmitter is ready for a byte
LSR_READY       equ 1 << 5
LSR_ALL_SENT    equ 1 << 6
POLLS           equ 5000000                 ; limit of all waits together: seconds
DEBUG_PORT      equ 0xE9
EXIT_PORT       equ 0xF4
BOCHS_PORT      equ 0x8900                  ; takes the word "Shutdown"
REFUSED         equ 0x13

SCREEN          equ 0xB8000
SCREEN_END      equ SCREEN + 80 * 25 * 2
ROW_BYTES       equ 80 * 2
BLANK           equ 0x0720
COLOUR          equ 0x4F                    ; white on red

section BOOT_SECTION

; ESI: the message. Does not return.
global  refuse
refuse:
        push    esi
        call    refuse_begin
        pop     esi
        call    refuse_print
        ; fall through

; Ends with the status "refused".
global  refuse_end
refuse_end:
        mov     ah, LSR_ALL_SENT            ; when an emulator exits, unsent output is lost
        call    wait_for_uart
        mov     al, REFUSED
        out     EXIT_PORT, al
        mov     esi, bochs_shutdown
        mov     ecx, bochs_shutdown_end - bochs_shutdown
        mov     edx, BOCHS_PORT
.next:  lodsb
        out     dx, al
        loop    .next
.halt:  cli
        hlt
        jmp     .halt

; Sets up the UART, clears the screen and prints the beginning of every refusal. Returns EDI, the screen position, which
; refuse_print updates. Changes EAX, ECX, EDX, ESI.
global  refuse_begin
refuse_begin:
        mov     esi, uart_setup
.next:  movzx   edx, byte [esi]
        mov     al, [esi + 1]
        add     edx, COM1
        out     dx, al
        add     esi, 2
        cmp     esi, uart_setup_end
        jb      .next
        mov     edi, SCREEN
        mov     ecx, 80 * 25
        mov     eax, BLANK
        rep stosw
        mov     edi, SCREEN
        mov     esi, text_begin
        ; fall through

; ESI: a text that ends with 0. EDI: the screen position. Changes EAX, ECX, EDX, ESI, EDI.
global  refuse_print
refuse_print:
        lodsb
        test    al, al
        jz      .done
        out     DEBUG_PORT, al
        cmp     al, 10
        jne     .plain
        mov     al, 13                      ; a serial terminal needs both
        call    send
        mov     al, 10
        call    send
        mov     eax, edi                    ; the next row of the screen
        sub     eax, SCREEN
        xor     edx, edx
        mov     ecx, ROW_BYTES
        div     ecx
        sub     edi, edx
        add     edi, ecx
        jmp     refuse_print
.plain: call    send
        cmp     edi, SCREEN_END
        jae     refuse_print                ; the screen is full
        mov     ah, COLOUR
        stosw
        jmp     refuse_print
.done:  ret

; AL: a byte for COM1. Changes EDX, AH.
send:
        push    eax
        mov     ah, LSR_READY
        call    wait_for_uart
        pop     eax
        mov     edx, COM1
        out     dx, al
        ret

; AH: bits of the line status to wait for. Changes AL, EDX.
wait_for_uart:
        mov     edx, LSR
.wait:  in      al, dx
        test    al, ah
        jnz     .done
        cmp     dword [polls_left], 0
        je      .done
        dec     dword [polls_left]
        jmp     .wait
.done:  ret

        align   4
polls_left:
        dd      POLLS

; Register and value: no interrupts, divisor 1 (115200 baud), 8N1, FIFOs on and empty, DTR and RTS.
uart_setup:
        db      1, 0x00,  3, 0x80,  0, 0x01,  1, 0x00,  3, 0x03,  2, 0x07,  4, 0x03
uart_setup_end:

bochs_shutdown:
        db      "Shutdown"
bochs_shutdown_end:

text_begin:
        db      "loft: cannot start: ", 0
