// The agents that take the steps of a schedule. A CPU is five agents:
//
//     p   its program: a thread, or the idle loop
//     i   its interrupts: the entry of one is the first step, then those of the handler; p takes no step meanwhile
//     b   its store buffer: a step makes the oldest store visible
//     t   its timer, if the case has ticks: a step makes the tick pending
//     n   its NMIs, if the case has any: a step is an NMI with its handler
//
// A device is one agent more:
//
//     d   it reads or writes memory, or interrupts a CPU (device.hpp)
#pragma once

#include "arch/base/types.hpp"

#include <string>

namespace loft::sim {

enum class Role : u8 { program, interrupt, buffer, timer, nmi, device };
inline constexpr u32 kRoles = 5; // of a CPU
inline constexpr const char* kRoleLetters = "pibtnd";
inline constexpr u32 kMaxExploredCpus = 5;
inline constexpr u32 kMaxDevices = 2;
inline constexpr u32 kFirstDevice = kRoles * kMaxExploredCpus;
inline constexpr u32 kMaxAgents = kFirstDevice + kMaxDevices;
// For tables by cpu_of(agent): the devices come behind the CPUs.
inline constexpr u32 kAgentGroups = kMaxExploredCpus + kMaxDevices;
inline constexpr u32 kNobody = ~0u;

using AgentSet = u32; // bits

constexpr u32 agent(u32 cpu, Role role) { return cpu * kRoles + static_cast<u32>(role); }
constexpr u32 device_agent(u32 device) { return kFirstDevice + device; }
constexpr u32 cpu_of(u32 agent) {
    return agent < kFirstDevice ? agent / kRoles : kMaxExploredCpus + (agent - kFirstDevice);
}
constexpr Role role_of(u32 agent) { return agent < kFirstDevice ? static_cast<Role>(agent % kRoles) : Role::device; }
constexpr bool in(AgentSet set, u32 agent) { return (set >> agent & 1) != 0; }
constexpr AgentSet only(u32 agent) { return 1u << agent; }

// A CPU's program and its interrupt: only one of them takes steps at a time.
constexpr u32 other_half(u32 a) {
    if (role_of(a) != Role::program && role_of(a) != Role::interrupt) return kNobody;
    return agent(cpu_of(a), role_of(a) == Role::program ? Role::interrupt : Role::program);
}
constexpr bool halves(u32 a, u32 b) { return other_half(a) == b; }

// What comes at any time and changes no more than that it has come: a timer, an NMI.
constexpr bool from_outside(u32 agent) { return role_of(agent) == Role::timer || role_of(agent) == Role::nmi; }
// Its step takes no time of a CPU: which CPU had the last turn does not change.
constexpr bool no_switch(u32 agent) { return from_outside(agent) || role_of(agent) == Role::device; }
constexpr AgentSet all_from_outside() {
    AgentSet set = 0;
    for (u32 a = 0; a < kMaxAgents; ++a)
        if (from_outside(a)) set |= only(a);
    return set;
}

inline std::string agent_name(u32 agent) {
    if (role_of(agent) == Role::device) return "d" + std::to_string(agent - kFirstDevice);
    return kRoleLetters[agent % kRoles] + std::to_string(cpu_of(agent));
}

} // namespace loft::sim
