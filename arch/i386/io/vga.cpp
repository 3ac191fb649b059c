// The VGA text screen. Contract: vga.hpp.
//
// Emulators trap every access to video memory and real cards are slow to read, so it is never read, and scrolling
// copies nothing: the CRTC shows 25 rows of a longer buffer, and its start address moves down row by row. Only at the
// buffer's end are the 25 rows written again at its beginning, from the copy in `rows`.
#include "arch/i386/io/vga.hpp"

#include "arch/i386/isa/control.hpp"

namespace loft::vga {
namespace {

constexpr u32 kColumns = 80, kRows = 25;
constexpr u32 kBufferRows = 32 * KiB / (kColumns * 2); // text memory: B8000-BFFFF
constexpr u16 kColour = 0x0700;                        // light grey on black
constexpr u16 kBlank = kColour | ' ';

// The CRT controller: an index port and a data port (IBM VGA technical reference, "CRT Controller Registers").
constexpr u16 kCrtcIndex = 0x3d4, kCrtcData = 0x3d5;
constexpr u8 kStart = 0x0c, kCursor = 0x0e; // high byte; the low byte is in the next register

constinit u16 rows[kRows][kColumns]{}; // line n of the output is in rows[n % kRows]
constinit u32 line = 0, column = 0;    // position of the next character; line stays below 2 * kRows
constinit u32 first_row = 0;           // the buffer row at the top of the screen
constinit bool ready = false;

volatile u16* cell(u32 row, u32 at_column) {
    auto* const screen = reinterpret_cast<volatile u16*>(0xc00b'8000); // in the direct map
    return screen + row * kColumns + at_column;
}

u32 buffer_row() { return first_row + (line < kRows ? line : kRows - 1); }

void show(u32 shown_line, u32 row) {
    for (u32 c = 0; c < kColumns; ++c)
        *cell(row, c) = rows[shown_line % kRows][c];
}

void new_line() {
    column = 0;
    if (++line == 2 * kRows) line = kRows;
    for (u16& c : rows[line % kRows])
        c = kBlank;
    if (line < kRows) return;
    ++first_row;
    if (first_row + kRows <= kBufferRows) {
        show(line, buffer_row());
        return;
    }
    first_row = 0;
    for (u32 row = 0; row < kRows; ++row)
        show(line - (kRows - 1) + row, row);
}

void put(char c) {
    if (c == '\n') return new_line();
    if (c == '\r') {
        column = 0;
        return;
    }
    if (column == kColumns) new_line();
    rows[line % kRows][column] = kColour | static_cast<u8>(c);
    *cell(buffer_row(), column) = kColour | static_cast<u8>(c);
    ++column;
}

void set_crtc(u8 reg, u32 value) {
    out8(kCrtcIndex, reg);
    out8(kCrtcData, static_cast<u8>(value >> 8));
    out8(kCrtcIndex, static_cast<u8>(reg + 1));
    out8(kCrtcData, static_cast<u8>(value));
}

void show_position() {
    set_crtc(kStart, first_row * kColumns);
    set_crtc(kCursor, buffer_row() * kColumns + column);
}

} // namespace

void init() {
    for (auto& row : rows)
        for (u16& c : row)
            c = kBlank;
    for (u32 row = 0; row < kRows; ++row)
        show(row, row);
    ready = true;
    show_position();
}

void write(std::string_view text) {
    if (!ready) return;
    for (char c : text)
        put(c);
    show_position();
}

} // namespace loft::vga
