// Allocating and counting page tables. Contract: highpte.hpp.
#include "mm/spaces/highpte.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/windows/highmem.hpp"

namespace loft {
namespace {

bool keep_low;
hal::Atomic<u32> tables;
hal::Atomic<u32> high_tables;

Page* new_table(Gfp gfp) {
    Page* page = alloc_page(gfp);
    if (page == nullptr) return nullptr;
    clear_highpage(page);
    page->set_type(PageType::table);
    page->set_payload(0);
    tables.fetch_add(1);
    if (is_highmem(page)) high_tables.fetch_add(1);
    return page;
}

} // namespace

Page* alloc_table() { return new_table(config::kHighPte && !keep_low ? Gfp::user : Gfp::user_low); }
Page* alloc_directory() { return new_table(Gfp::user_low); }

void forget_table(Page* table) {
    LOFT_ASSERT(table->type() == PageType::table);
    table->set_type(PageType::used);
    tables.fetch_sub(1);
    if (is_highmem(table)) high_tables.fetch_sub(1);
}

void free_table(Page* table) {
    forget_table(table);
    free_page(table);
}

PageTableStats page_table_stats() { return {tables.load(), high_tables.load()}; }

void highpte_init(bool nohigh) {
    keep_low = nohigh;
    tables.store(0);
    high_tables.store(0);
}

} // namespace loft
