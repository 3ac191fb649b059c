// Schedules as text. Contract: replay.hpp.
#include "tests/sim/replay.hpp"

#include "tests/sim/errors.hpp"

#include <algorithm>
#include <sstream>

namespace loft::sim {

std::string schedule_text(const std::vector<Event>& events, u32 steps, const std::vector<AgentSet>& enabled) {
    std::ostringstream out;
    Default usual;
    for (u32 i = 0; i < steps; ++i) {
        if (usual.pick(enabled[i]) != events[i].agent) out << ' ' << i << ':' << agent_name(events[i].agent);
        usual.taken(events[i].agent);
        const auto& chosen = events[i].chosen;
        if (std::all_of(chosen.begin(), chosen.end(), [](u32 answer) { return answer == 0; })) continue;
        out << ' ' << i;
        for (const u32 answer : chosen)
            out << '=' << answer;
    }
    const std::string text = out.str();
    return text.empty() ? "default" : text.substr(1);
}

Replay::Replay(const std::string& text) {
    std::istringstream in{text};
    std::string word;
    while (in >> word) {
        if (word == "default") continue;
        std::size_t used = 0;
        const u32 step = static_cast<u32>(std::stoul(word, &used));
        if (word.at(used) == ':') {
            const std::size_t role = std::string{kRoleLetters}.find(word.at(used + 1));
            if (role == std::string::npos) throw BadAccess{"LOFT_SCHEDULE: what is " + word + "?"};
            const u32 number = static_cast<u32>(std::stoul(word.substr(used + 2)));
            const bool device = static_cast<Role>(role) == Role::device;
            agent_[step] = device ? device_agent(number) : agent(number, static_cast<Role>(role));
            continue;
        }
        while (used < word.size() && word[used] == '=') {
            std::size_t digits = 0;
            answers_[step].push_back(static_cast<u32>(std::stoul(word.substr(used + 1), &digits)));
            used += 1 + digits;
        }
    }
}

u32 Replay::pick(AgentSet enabled) {
    ++step_;
    choice_ = 0;
    const auto wish = agent_.find(step_);
    const u32 next = wish != agent_.end() && in(enabled, wish->second) ? wish->second : default_.pick(enabled);
    default_.taken(next);
    return next;
}

u32 Replay::choose(u32) {
    const auto answers = answers_.find(step_);
    const u32 at = choice_++;
    return answers == answers_.end() || at >= answers->second.size() ? 0 : answers->second[at];
}

} // namespace loft::sim
