// The PCI bus. Contract: pci.hpp.
#include "kernel/devices/pci.hpp"

#include "arch/base/fixed_list.hpp"
#include "arch/base/panic.hpp"
#include "arch/i386/isa/control.hpp"
#include "mm/frames/page.hpp"
#include "mm/ground/spinlock.hpp"
#include "mm/windows/fixmap.hpp"

namespace loft {
namespace {

constexpr u16 kAddressPort = 0xcf8, kDataPort = 0xcfc;
constexpr u32 kEnable = 1u << 31;
constexpr u32 kBuses = 256, kDevices = 32, kFunctions = 8;

// Offsets in configuration space (6.1).
constexpr u32 kId = 0x00, kPciCommand = 0x04, kPciStatus = 0x06, kClass = 0x08, kHeaderType = 0x0e, kFirstBar = 0x10,
              kSecondaryBus = 0x19, kCapabilities = 0x34, kLine = 0x3c, kPin = 0x3d;
constexpr u8 kManyFunctions = 1 << 7, kHeaderMask = 0x7f, kHeaderOfDevice = 0, kHeaderOfBridge = 1;
constexpr u16 kHasCapabilities = 1 << 4;
constexpr u32 kNothing = 0xffff'ffff; // what a read returns if no function answers

// The address and the data port together are one register of configuration space.
constinit SpinLock ports{LockRank::last};
constinit FixedList<PciFunction, 64> functions;

void select(PciAddress at, u32 offset) LOFT_REQUIRES(ports) {
    out32(kAddressPort, kEnable | u32{at.bus} << 16 | u32{at.device} << 11 | u32{at.function} << 8 | (offset & 0xfc));
}

// The address port keeps what is written to it, as 32 bits; an ISA board has nothing there.
bool is_there() {
    const SpinGuard guard{ports};
    out32(kAddressPort, kEnable);
    return in32(kAddressPort) == kEnable;
}

PciFunction describe(PciAddress at, u32 id) {
    const u32 kind = pci_read32(at, kClass);
    const bool is_device = (pci_read8(at, kHeaderType) & kHeaderMask) == kHeaderOfDevice;
    return {.at = at,
            .vendor = static_cast<u16>(id),
            .id = static_cast<u16>(id >> 16),
            .base_class = static_cast<u8>(kind >> 24),
            .sub_class = static_cast<u8>(kind >> 16),
            .interface = static_cast<u8>(kind >> 8),
            .pin = is_device ? pci_read8(at, kPin) : u8{0},
            .line = is_device ? pci_read8(at, kLine) : u8{0}};
}

// The buses that were found, as bits: each bridge names the bus behind it, and a wrong one may name a bus twice.
struct Buses {
    u32 word[kBuses / 32]{};
    bool has(u32 bus) const { return (word[bus / 32] >> bus % 32 & 1) != 0; }
    void add(u32 bus) { word[bus / 32] |= 1u << bus % 32; }
};

void scan_function(PciAddress at, u32 id, Buses& found) {
    const PciFunction function = describe(at, id);
    log(LogLevel::info, "pci", "{:02x}:{:02x}.{} {:04x}:{:04x} class {:02x}{:02x}{:02x}, interrupt {}", at.bus,
        at.device, at.function, function.vendor, function.id, function.base_class, function.sub_class,
        function.interface, function.pin == 0 ? 0 : function.line);
    if (!functions.add(function)) log(LogLevel::warn, "pci", "too many functions: this one is not used");
    if ((pci_read8(at, kHeaderType) & kHeaderMask) == kHeaderOfBridge) found.add(pci_read8(at, kSecondaryBus));
}

void scan_device(u32 bus, u32 device, Buses& found) {
    for (u32 function = 0; function < kFunctions; ++function) {
        const PciAddress at{static_cast<u8>(bus), static_cast<u8>(device), static_cast<u8>(function)};
        const u32 id = pci_read32(at, kId);
        if (id != kNothing && id != 0) scan_function(at, id, found);
        // Function 0 must exist, and says whether there are others (6.1, 6.2.1).
        if (function == 0 && (id == kNothing || (pci_read8(at, kHeaderType) & kManyFunctions) == 0)) return;
    }
}

} // namespace

void pci_init() {
    if (!is_there()) return;
    Buses found, scanned;
    found.add(0);
    for (bool more = true; more;) {
        more = false;
        for (u32 bus = 0; bus < kBuses; ++bus) {
            if (!found.has(bus) || scanned.has(bus)) continue;
            scanned.add(bus);
            more = true;
            for (u32 device = 0; device < kDevices; ++device)
                scan_device(bus, device, found);
        }
    }
}

std::span<const PciFunction> pci_functions() { return functions.view(); }

u32 pci_read32(PciAddress at, u32 offset) {
    const SpinGuard guard{ports};
    select(at, offset);
    return in32(kDataPort);
}
u16 pci_read16(PciAddress at, u32 offset) { return static_cast<u16>(pci_read32(at, offset) >> offset % 4 * 8); }
u8 pci_read8(PciAddress at, u32 offset) { return static_cast<u8>(pci_read32(at, offset) >> offset % 4 * 8); }

void pci_write32(PciAddress at, u32 offset, u32 value) {
    const SpinGuard guard{ports};
    select(at, offset);
    out32(kDataPort, value);
}
// Not as 32 bits: the other half of the word may have bits that a write of 1 clears, as the status register has.
void pci_write16(PciAddress at, u32 offset, u16 value) {
    const SpinGuard guard{ports};
    select(at, offset);
    out16(static_cast<u16>(kDataPort + offset % 4), value);
}

void pci_set_command(PciAddress at, u16 set, u16 clear) {
    pci_write16(at, kPciCommand, static_cast<u16>((pci_read16(at, kPciCommand) & ~clear) | set));
}

PciBar pci_bar(PciAddress at, u32 index) {
    constexpr u32 kBars = 6, kIsPort = 1 << 0, kTypeMask = 3 << 1, kIs64Bit = 2 << 1;
    if (index >= kBars || (pci_read8(at, kHeaderType) & kHeaderMask) != kHeaderOfDevice) return {};
    const u32 offset = kFirstBar + 4 * index, low = pci_read32(at, offset);
    const bool is_port = (low & kIsPort) != 0, is_long = !is_port && (low & kTypeMask) == kIs64Bit;
    if (is_long && index + 1 == kBars) return {};
    const u32 high = is_long ? pci_read32(at, offset + 4) : 0;

    // The bits of the size do not keep a 1. While the address is wrong the function must not answer to it.
    const u16 command = pci_read16(at, kPciCommand);
    pci_set_command(at, 0, pci_command::ports | pci_command::memory);
    pci_write32(at, offset, ~u32{0});
    const u32 low_mask = pci_read32(at, offset) & (is_port ? ~u32{3} : ~u32{15});
    pci_write32(at, offset, low);
    u32 high_mask = ~u32{0};
    if (is_long) {
        pci_write32(at, offset + 4, ~u32{0});
        high_mask = pci_read32(at, offset + 4);
        pci_write32(at, offset + 4, high);
    }
    pci_write16(at, kPciCommand, command);

    if (low_mask == 0 && (!is_long || high_mask == 0)) return {};
    // A port has 16 bits, and the upper half of its register may be fixed at 0.
    const u64 mask = u64{high_mask} << 32 | low_mask | (is_port ? 0xffff'0000u : 0);
    const PciBar bar{PhysAddr{u64{high} << 32 | (low & (is_port ? 0xfffcu : ~15u))}, ~mask + 1, is_port};
    return bar.base == PhysAddr{} ? PciBar{} : bar;
}

u32 pci_capability(PciAddress at, u8 id, u32 after) {
    constexpr u32 kMost = 48, kFirstOffset = 0x40; // as many as fit: a list with a loop ends, too
    if ((pci_read16(at, kPciStatus) & kHasCapabilities) == 0) return 0;
    u32 offset = pci_read8(at, after == 0 ? kCapabilities : after + 1) & 0xfc;
    for (u32 i = 0; i < kMost && offset >= kFirstOffset; ++i) {
        if (pci_read8(at, offset) == id) return offset;
        offset = pci_read8(at, offset + 1) & 0xfc;
    }
    return 0;
}

Result<VirtAddr> pci_map(PciAddress at, u32 index, u32 offset, u32 bytes) {
    const PciBar bar = pci_bar(at, index);
    if (bar.bytes == 0 || bar.is_port) return Error::not_found;
    if (bytes == 0 || offset >= bar.bytes || bytes > bar.bytes - offset) return Error::invalid;
    const PhysAddr begin = bar.base + offset, last = begin + (bytes - 1);
    for (Pfn pfn = begin.pfn(); pfn <= last.pfn() && pfn.value() < mem_map_count; pfn = pfn + 1)
        if (pfn_to_page(pfn)->type() != PageType::none) return Error::busy;
    return fixmap_device(begin, bytes);
}

Status pci_use_message(PciAddress at, DeviceHandler& handler) {
    constexpr u8 kMsixCapability = 0x11;
    constexpr u32 kControl = 2, kTable = 4;                      // in the capability
    constexpr u16 kEnableMessages = 1 << 15, kMaskAll = 1 << 14; //
    constexpr u32 kEntryBytes = 16, kAddressLow = 0, kAddressHigh = 4, kData = 8, kVectorControl = 12, kMasked = 1 << 0;
    const u32 capability = pci_capability(at, kMsixCapability);
    if (capability == 0) return Error::not_found;
    const u16 control = pci_read16(at, capability + kControl);
    const u32 table = pci_read32(at, capability + kTable);
    const Result<VirtAddr> entry = pci_map(at, table & 7, table & ~7u, kEntryBytes);
    if (!entry) return entry.error();
    const Result<InterruptMessage> message = interrupt_add_message(handler);
    if (!message) return message.error();

    pci_set_command(at, pci_command::memory | pci_command::no_line, 0);
    pci_write16(at, capability + kControl, static_cast<u16>(control | kEnableMessages | kMaskAll));
    hal::store<u32>(*entry + kAddressLow, static_cast<u32>(message->address.value()));
    hal::store<u32>(*entry + kAddressHigh, static_cast<u32>(message->address.value() >> 32));
    hal::store<u32>(*entry + kData, message->data);
    hal::store<u32>(*entry + kVectorControl, hal::load<u32>(*entry + kVectorControl) & ~kMasked);
    pci_write16(at, capability + kControl, static_cast<u16>((control | kEnableMessages) & ~kMaskAll));
    return {};
}

} // namespace loft
