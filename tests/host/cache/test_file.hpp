// A file for tests of memory objects and of reclaim, whose source is a map of the host.
#pragma once

#include "mm/cache/memory_object.hpp"
#include "mm/windows/highmem.hpp"
#include "tests/host/spaces/program.hpp"

#include <array>
#include <functional>
#include <map>
#include <set>

namespace loft::test {

constexpr VirtAddr at(u32 page, u32 offset = 0) { return VirtAddr{kBase + page * kPageSize + offset}; }

// A file: word i of its contents is i + 1 until something else is stored. Valid as long as its variable.
class TestFile final : public MemoryObject {
  public:
    using Words = std::array<u32, kPageSize / 4>;

    explicit TestFile(u64 bytes, bool written_back = false)
        : TestFile{bytes, written_back ? ObjectKind::written_back : ObjectKind::fixed} {}
    TestFile(u64 bytes, ObjectKind kind) : MemoryObject{bytes, kind} {}
    ~TestFile() {
        refusal = {};
        bad_page = ~0u;
        while (*write_back_one()) {
        }
        put();
    }
    static constexpr u32 word(u32 page, u32 offset) { return (page * kPageSize + offset) / 4 + 1; }

    u32 fills = 0;                 // calls
    u32 filled = 0;                // pages
    bool broken = false;           // it cannot be read
    u32 bad_page = ~0u;            // cannot be read or stored
    Status refusal{};              // the result of a store
    std::map<u32, Words> source{}; // the pages that were stored
    std::multiset<u32> stored{};   // their numbers, since they were looked at
    bool destroyed = false;
    bool serves = false; // others
    std::function<void()> in_fill = [] {}, in_store = [] {};
    bool serves_others() const override { return serves; }
    bool reserve = false; // its pages may come from the kernel's reserve
    bool has_reserve() const override { return reserve; }
    using MemoryObject::take_out; // as a swap area frees a page

  private:
    Status fill(u32 first, std::span<Page* const> frames) override {
        ++fills;
        in_fill();
        if (broken || (bad_page >= first && bad_page < first + frames.size())) return Error::out_of_reach;
        for (u32 at = 0; at < frames.size(); ++at) {
            const u32 number = first + at;
            ++filled;
            Words words{};
            for (u32 i = 0; i < words.size(); ++i)
                if (u64{number} * kPageSize + i * 4 < bytes()) words[i] = word(number, i * 4);
            if (source.contains(number)) words = source[number];
            memcpy_to_page(frames[at], 0, words.data(), kPageSize);
        }
        return {};
    }
    Status store(u32 first, std::span<Page* const> frames) override {
        in_store();
        if (!refusal) return refusal;
        if (bad_page >= first && bad_page < first + frames.size()) return Error::io;
        for (u32 i = 0; i < frames.size(); ++i) {
            stored.insert(first + i);
            memcpy_from_page(source[first + i].data(), frames[i], 0, kPageSize);
        }
        return {};
    }
    void destroy() override { destroyed = true; }
};

inline void map_file(AddressSpace& space, TestFile& file, u32 page, u32 pages, MapKind kind, Prot prot = kReadWrite,
                     u32 first = 0) {
    REQUIRE(space.map(at(page), pages * kPageSize, prot, kind, true, true, {&file, first}));
}

inline u32 word_of(TestFile& file, u32 page) {
    u32 word = 0;
    REQUIRE(file.read(u64{page} * kPageSize, &word, sizeof word));
    return word;
}

} // namespace loft::test
