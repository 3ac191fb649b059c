// DEBUG=1: freed frames are poisoned and must stay so, and no frame may be freed while a mapping shows it.
#include "mm/frames/page_alloc.hpp"
#include "mm/windows/highmem.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/host/booted.hpp"

using namespace loft;
using namespace loft::test;

namespace {

u32 word(Page* page, u32 index) { return sim::peek<u32>(page_to_pfn(page).phys() + index * 4); }
void set_word(Page* page, u32 index, u32 value) { sim::poke(page_to_pfn(page).phys() + index * 4, value); }
constexpr u32 kWords = kPageSize / 4;

} // namespace

TEST_CASE("debug: a freed frame is filled with poison, high or low", "[debug]") {
    ONLY_WITH(kDebug);
    Booted kernel;
    for (const Gfp gfp : {Gfp::kernel, Gfp::high}) {
        Page* page = new_page(gfp);
        stamp(page);
        free_page(page);
        for (u32 i = 1; i < kWords - 1; ++i)
            REQUIRE(word(page, i) == kPoison);
        CHECK(word(page, 0) != kPoison);
        CHECK(word(page, 0) == word(page, kWords - 1)); // the mark of the frame
        REQUIRE(alloc_page(gfp) == page);
    }
}

TEST_CASE("debug: every frame of a block is poisoned", "[debug]") {
    ONLY_WITH(kDebug);
    Booted kernel;
    Page* block = alloc_pages(Gfp::high, 3);
    free_pages(block, 3);
    for (u32 i = 0; i < 8; ++i)
        CHECK(word(block + i, 100) == kPoison);
    set_word(block + 5, 7, 0);
    CHECK_THROWS_MATCHES(
        [&] {
            for (u32 i = 0; i < 4096; ++i)
                if (alloc_pages(Gfp::high, 3) == nullptr) return;
        }(),
        sim::Panic, Says(sim::text("frame {} was written after it was freed: offset 1c", page_to_pfn(block + 5))));
}

TEST_CASE("debug: a write to a freed frame is found when it is allocated again, wherever it was", "[debug]") {
    ONLY_WITH(kDebug);
    for (const u32 index : {0u, 1u, 500u, kWords - 2, kWords - 1}) {
        INFO("word " << index);
        Booted kernel;
        Page* page = new_page();
        free_page(page);
        set_word(page, index, 0x1234'5678);
        CHECK_THROWS_MATCHES((void)alloc_page(Gfp::high), sim::Panic,
                             Says(sim::text("frame {} was written after it was freed: offset {:x} holds 12345678",
                                            page_to_pfn(page), index * 4)));
    }
}

TEST_CASE("debug: a frame that nobody ever freed may hold anything", "[debug]") {
    Booted kernel;
    for (u32 i = 0; i < 2000; ++i) {
        Page* page = new_page(i % 2 ? Gfp::high : Gfp::kernel);
        stamp(page);
    }
}

TEST_CASE("debug: a frame that was allocated and not written is not mistaken for a freed one", "[debug]") {
    Booted kernel;
    Page* page = new_page();
    free_page(page);
    REQUIRE(alloc_page(Gfp::high) == page);
    set_word(page, 100, 0xdead'beef); // the owner may write it
    free_page(page);
    CHECK(alloc_page(Gfp::high) == page);
    CHECK_NOTHROW(debug_check_poison(page_to_pfn(page), 0));
}

TEST_CASE("debug: a frame that a local mapping of any CPU shows cannot be freed", "[debug]") {
    ONLY_WITH(kDebug && config::kHighMem);
    Booted kernel;
    for (const Gfp gfp : {Gfp::kernel, Gfp::high}) {
        Page* page = new_page(gfp);
        LocalAddr addr;
        sim::on_cpu(CpuId{1}, [&] { addr = kmap_local_page(page); });
        CHECK_PANIC(free_page(page), sim::text("free of frame {}: a local mapping still shows it", page_to_pfn(page)));
        sim::on_cpu(CpuId{1}, [&] { kunmap_local(addr); });
        CHECK_NOTHROW(free_page(page));
    }
    Page* block = alloc_pages(Gfp::high, 2);
    const LocalAddr addr = kmap_local_page(block + 3);
    CHECK_PANIC(free_pages(block, 2), "a local mapping still shows it");
    kunmap_local(addr);
}

TEST_CASE("debug: a frame that a vmap area shows cannot be freed", "[debug]") {
    ONLY_WITH(kDebug);
    Booted kernel;
    std::vector<Page*> pages = new_pages(3);
    const Result<VirtAddr> addr = vmap(pages.data(), 3, VmapProt::rw);
    REQUIRE(addr);
    CHECK_PANIC(free_page(pages[1]), sim::text("free of frame {}: a vmap area still shows it", page_to_pfn(pages[1])));
    vunmap(*addr);
    CHECK_NOTHROW(free_all(pages));
}

TEST_CASE("debug: a frame that kmap shows cannot be freed, in any build", "[debug]") {
    ONLY_WITH(config::kHighMem);
    Booted kernel;
    Page* page = new_page();
    (void)kmap(page);
    CHECK_PANIC(free_page(page), "kmap still shows it");
}

TEST_CASE("debug: poisoning leaves no mapping behind and shows no stale frame", "[debug]") {
    Booted kernel{small(2)};
    const Books before = books();
    for (u32 round = 0; round < 3; ++round) {
        for (u32 cpu = 0; cpu < 2; ++cpu) {
            sim::on_cpu(CpuId{cpu}, [] {
                std::vector<Page*> pages = new_pages(20);
                for (Page* page : pages)
                    clear_highpage(page);
                free_all(pages);
            });
        }
    }
    CHECK(books() == before);
    if (config::kHighMem) CHECK_THROWS_AS(hal::load<u32>(layout::local_private_slot(CpuId{0})), sim::PageFault);
}
