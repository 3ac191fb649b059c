// The list of lines that requested a flush. Contract: flush_sites.hpp.
#include "tests/sim/flush_sites.hpp"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>

namespace loft::sim {
namespace {

class Sites {
  public:
    Sites() {
        if (const char* drop = std::getenv("LOFT_DROP_FLUSH")) always_dropped_ = drop;
        if (const char* list = std::getenv("LOFT_LIST_FLUSHES")) list_ = list;
    }
    ~Sites() {
        if (!list_.empty()) write_list();
    }

    bool wanted(const Site& site, const char* kind) {
        if (!list_.empty()) seen_[{site.file, site.line, site.column}].insert(kind);
        if (!matches(site, drop_) && !matches(site, always_dropped_)) return true;
        ++dropped_;
        return false;
    }
    void drop(std::string_view site) {
        drop_ = site;
        dropped_ = 0;
    }
    u64 dropped() const { return dropped_; }

  private:
    using Key = std::tuple<std::string, u32, u32>;

    static bool is_tail(const std::string& whole, std::string_view tail) {
        if (whole.size() < tail.size() || whole.compare(whole.size() - tail.size(), tail.size(), tail) != 0)
            return false;
        return whole.size() == tail.size() || whole[whole.size() - tail.size() - 1] == '/';
    }
    static bool matches(const Site& site, const std::string& drop) {
        if (drop.empty()) return false;
        const std::string line = std::string{site.file} + ":" + std::to_string(site.line);
        return is_tail(line, drop) || is_tail(line + ":" + std::to_string(site.column), drop);
    }
    void write_list() const {
        std::FILE* file = std::fopen(list_.c_str(), "a");
        if (file == nullptr) return;
        std::map<std::pair<std::string, u32>, u32> on_line;
        for (const auto& [key, kinds] : seen_)
            ++on_line[{std::get<0>(key), std::get<1>(key)}];
        for (const auto& [key, kinds] : seen_) {
            const auto& [path, line, column] = key;
            std::string where = path + ":" + std::to_string(line);
            if (on_line[{path, line}] > 1) where += ":" + std::to_string(column);
            for (const std::string& kind : kinds)
                std::fprintf(file, "%s %s\n", where.c_str(), kind.c_str());
        }
        std::fclose(file);
    }

    std::map<Key, std::set<std::string>> seen_;
    std::string drop_;           // set by the current test
    std::string always_dropped_; // set by the environment
    std::string list_;
    u64 dropped_ = 0;
};

Sites& sites() {
    static Sites all;
    return all;
}

} // namespace

bool flush_wanted(const Site& site, const char* kind) { return sites().wanted(site, kind); }
void drop_flush_site(std::string_view site) { sites().drop(site); }
u64 dropped_flushes() { return sites().dropped(); }

} // namespace loft::sim
