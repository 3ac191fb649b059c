; The first page tables: just enough to run C++ in the higher half. mm builds the final ones and stops using these.
;
;   00000000  the first 16 MiB identity-mapped, for the code that turns paging on
;   C0000000  physical 0 - 896 MiB in large pages, all of them writable, none global
;   last PTE table of the address space: boot_fixmap_table, empty, for C++ to fill from its first line on
;
; Both formats come from this one source. A large page is a directory entry:
;   two-level (SDM vol. 3, 4.3, table 4-4): CR3 -> one directory of 1024 entries of 4 bytes, 4 MiB each
;   PAE       (4.4, table 4-9):             CR3 -> 4 PDPTEs -> directories of 512 entries of 8 bytes, 2 MiB
; The tables are in .bss, which the loader has cleared (an ELF segment's memory beyond its file size).

bits 32
%include "boot/layout.inc"

PRESENT         equ 1 << 0
WRITE           equ 1 << 1
LARGE           equ 1 << 7                  ; PS, in a directory entry

%if LOFT_PAE
%define ENTRY_BYTES     8
%define LARGE_BYTES     (2 << 20)
%define identity_entry  phys(identity_directory)
%define direct_entry    phys(direct_directory)
%define last_entry      phys(direct_directory + 511 * 8)
%else
%define ENTRY_BYTES     4
%define LARGE_BYTES     (4 << 20)
%define identity_entry  phys(boot_root)
%define direct_entry    phys(boot_root + (KERNEL_BASE >> 22) * 4)
%define last_entry      phys(boot_root + 1023 * 4)
%endif

section BOOT_SECTION

; Paging is off. Changes EAX, ECX, EDI.
global  build_boot_tables
build_boot_tables:
        mov     edi, identity_entry
        mov     ecx, IDENTITY_BYTES / LARGE_BYTES
        call    map_from_zero
        mov     edi, direct_entry
        mov     ecx, LOWMEM_BYTES / LARGE_BYTES
        call    map_from_zero
        mov     dword [last_entry], phys(boot_fixmap_table) + (PRESENT | WRITE)
%if LOFT_PAE
        ; In a PDPTE only "present" may be set here: bits 1 and 2 are reserved (table 4-8).
        mov     dword [phys(boot_root) + 0 * 8], phys(identity_directory) + PRESENT
        mov     dword [phys(boot_root) + 3 * 8], phys(direct_directory) + PRESENT
%endif
        ret

; Maps ECX large pages, from physical address 0 on, with the entries from [EDI] on. All are below 4 GiB, so the high
; half of a PAE entry is 0.
map_from_zero:
        mov     eax, PRESENT | WRITE | LARGE
.next:  mov     [edi], eax
%if LOFT_PAE
        mov     dword [edi + 4], 0
%endif
        add     edi, ENTRY_BYTES
        add     eax, LARGE_BYTES
        dec     ecx
        jnz     .next
        ret

section .page_tables nobits alloc noexec write align=4096
global  boot_root, boot_fixmap_table
boot_root:              resb 4096           ; page directory, or the PDPT at its beginning
boot_fixmap_table:      resb 4096
%if LOFT_PAE
identity_directory:     resb 4096
direct_directory:       resb 4096
%endif
