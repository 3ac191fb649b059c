// Interrupts of devices. Contract: interrupt.hpp.
#include "kernel/devices/interrupt.hpp"

#include "arch/base/near_wrap.hpp"
#include "arch/base/panic.hpp"
#include "arch/i386/irq/irq.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "arch/i386/irq/traps.hpp"
#include "mm/ground/spinlock.hpp"

namespace loft {
namespace {

constexpr u32 kLines = 16;

struct Line {
    hal::Atomic<DeviceHandler*> first{};
    Trigger trigger = Trigger::edge; // constant once there is a handler
    u32 unclaimed = 0;               // interrupts since the last one that a device wanted. Used by the interrupt only
};
constinit Line lines[kLines]{};
constinit SpinLock masks{LockRank::last}; // guards the controller's masks of these lines
constinit DeviceHandler* message_handlers[vector::messages]{};
constinit u32 messages_used = 0; // boot thread
constinit hal::Atomic<u32> unclaimed{near_wrap<u32>()};

void on_line(TrapFrame& frame) {
    const u32 irq = frame.vector - vector::pic_base;
    if (!irq_is_real(irq)) return;
    Line& line = lines[irq];
    bool claimed = false;
    for (DeviceHandler* handler = line.first.load(); handler != nullptr; handler = handler->next.load())
        claimed |= handler->handle(handler->device);
    if (claimed) {
        line.unclaimed = 0;
    } else {
        unclaimed.fetch_add(1);
        if (line.trigger == Trigger::level && ++line.unclaimed == kMostUnclaimed) {
            const SpinGuard guard{masks};
            irq_mask(irq);
        }
    }
    irq_eoi(irq);
    if (line.unclaimed == kMostUnclaimed)
        log(LogLevel::error, "irq", "line {}: {} interrupts of no device; it is masked", irq, kMostUnclaimed);
}

void on_message(TrapFrame& frame) {
    const DeviceHandler& handler = *message_handlers[frame.vector - vector::first_message];
    if (!handler.handle(handler.device)) unclaimed.fetch_add(1);
    lapic_eoi();
}

// Timer, keyboard controller, cascade, clock and coprocessor have these (82371SB data sheet, 2.5.3).
bool is_for_devices(u32 irq) { return irq < kLines && irq > 2 && irq != 8 && irq != 13; }

} // namespace

Status interrupt_add_line(u32 irq, Trigger trigger, DeviceHandler& handler) {
    if (!is_for_devices(irq)) return Error::invalid;
    if (!irq_is_connected(irq)) return Error::not_found;
    Line& line = lines[irq];
    DeviceHandler* last = line.first.load();
    if (last != nullptr) {
        if (line.trigger != Trigger::level || trigger != Trigger::level) return Error::busy;
        while (last->next.load() != nullptr)
            last = last->next.load();
        last->next.store(&handler);
        return {};
    }
    line.trigger = trigger;
    line.first.store(&handler);
    trap_set_handler(irq_vector(irq), on_line);
    const SpinGuard guard{masks};
    if (trigger == Trigger::level) irq_make_level(irq);
    irq_unmask(irq);
    return {};
}

Result<InterruptMessage> interrupt_add_message(DeviceHandler& handler) {
    constexpr u32 kDestinationShift = 12; // the rest of address and data is 0: fixed, physical, edge (10.11.1, 10.11.2)
    if (!lapic_ready()) return Error::not_found;
    if (messages_used == vector::messages) return Error::no_space;
    const u32 number = messages_used++;
    const u8 vector = static_cast<u8>(vector::first_message + number);
    message_handlers[number] = &handler;
    trap_set_handler(vector, on_message);
    return InterruptMessage{lapic_phys_base() + (u64{cpu_lapic_id(CpuId{0})} << kDestinationShift), vector};
}

u32 unclaimed_interrupts() { return unclaimed.load(); }

} // namespace loft
