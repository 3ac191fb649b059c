// Names on the command line. Contract: names.hpp.
#include "kernel/report/names.hpp"

#include "kernel/report/exit.hpp"
#include "kernel/report/log.hpp"

#include <algorithm>
#include <array>

namespace loft {

u32 name_distance(std::string_view a, std::string_view b) {
    constexpr std::size_t kMost = 63;
    a = a.substr(0, kMost);
    b = b.substr(0, kMost);
    // Row i: the distances of the first i letters of `a` from each prefix of `b`. Three rows, for transpositions.
    std::array<std::array<u8, kMost + 1>, 3> rows;
    for (std::size_t j = 0; j <= b.size(); ++j)
        rows[0][j] = static_cast<u8>(j);
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::array<u8, kMost + 1>& row = rows[i % 3];
        const std::array<u8, kMost + 1>& above = rows[(i - 1) % 3];
        row[0] = static_cast<u8>(i);
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const u32 replaced = above[j - 1] + (a[i - 1] != b[j - 1]);
            u32 least = std::min({above[j] + 1u, row[j - 1] + 1u, replaced});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                least = std::min(least, rows[(i - 2) % 3][j - 2] + 1u);
            row[j] = static_cast<u8>(least);
        }
    }
    return rows[a.size() % 3][b.size()];
}

u32 name_rank(std::string_view wanted, std::string_view name) {
    return name.find(wanted) != std::string_view::npos ? 0 : name_distance(wanted, name);
}

void Closest::offer(std::string_view name) {
    const u32 rank = name_rank(wanted_, name);
    if (rank >= rank_) return;
    rank_ = rank;
    best_.clear();
    best_.write(name);
}

void offer_names(std::string_view prefix, std::string_view wanted, std::string_view what,
                 std::span<std::string_view> names) {
    // Insertion sort: there are some tens of names. Stable.
    for (std::size_t i = 1; i < names.size(); ++i) {
        const std::string_view name = names[i];
        const u32 rank = name_rank(wanted, name);
        std::size_t at = i;
        for (; at != 0 && name_rank(wanted, names[at - 1]) > rank; --at)
            names[at] = names[at - 1];
        names[at] = name;
    }
    if (!names.empty() && is_near(name_rank(wanted, names[0]), wanted)) print("Did you mean {}{}?", prefix, names[0]);
    print("{}, the closest first:", what);
    constexpr std::size_t kColumns = 100;
    BufferSink<kColumns> line;
    for (std::string_view name : names) {
        if (line.view().size() + 1 + name.size() > kColumns) {
            print("   {}", line.view());
            line.clear();
        }
        format(line, " {}", name);
    }
    print("   {}", line.view());
}

void refuse_request() { end_of_boot(ExitStatus::refused); }

} // namespace loft
