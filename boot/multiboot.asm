; The multiboot header (Multiboot Specification 0.6.96, 3.1): by it a loader recognises loft.
;
; linker.ld puts it first, so it lies in the first 8 KiB of the file. The load addresses are in the ELF headers, so none
; are here. The build checks it with grub-file.

MAGIC           equ 0x1BADB002
ALIGN_MODULES   equ 1 << 0                  ; modules on page boundaries: they can be mapped page by page
MEMORY_INFO     equ 1 << 1                  ; the memory map is required
FLAGS           equ ALIGN_MODULES | MEMORY_INFO

section .multiboot progbits alloc noexec nowrite align=4
        dd      MAGIC
        dd      FLAGS
        dd      -(MAGIC + FLAGS)
