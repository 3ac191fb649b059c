; The multiboot header (Multiboot Specification 0.6.96, 3.1): how a loader recognises loft.
;
; It lies in the first 8 KiB of the file because linker.ld puts it first. The ELF headers tell the loader the
; rest, so there are no load addresses here. The build checks it with grub-file.

MAGIC           equ 0x1BADB002
ALIGN_MODULES   equ 1 << 0                  ; modules on page borders: they can be mapped page by page
MEMORY_INFO     equ 1 << 1                  ; we need the memory map
FLAGS           equ ALIGN_MODULES | MEMORY_INFO

section .multiboot progbits alloc noexec nowrite align=4
        dd      MAGIC
        dd      FLAGS
        dd      -(MAGIC + FLAGS)
