// SPDX-License-Identifier: MIT
// loft's benchmark as a Linux module: the same operations with the same names, through Linux's calls.
//
// kernel/proof/bench.hpp defines a line; kernel/proof/bench_paths.cpp has loft's operations. The timer ticks here, 250
// times a second: a tick falls into a round only if the round takes longer than 4 ms, and then costs less than a
// thousandth of it. All operations run while the module is loaded, and the results are printed to the kernel's log.
#include <linux/highmem.h>
#include <linux/init.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/timex.h>
#include <linux/vmalloc.h>

enum { ROUNDS = 21, OPERATIONS = 4096, PAGES = 4096, VMAP_PAGES = 16 };

static struct page **pages;
static pmd_t pmd; // its table is pages[0], a page of high memory
static pmd_t *pmds;

static int compare(const void *a, const void *b)
{
    const u64 x = *(const u64 *)a, y = *(const u64 *)b;
    return x < y ? -1 : x > y;
}

static noinline void line(const char *name, u64 (*round)(void))
{
    static u64 took[ROUNDS];
    u64 scaled;
    u32 rest;
    int i;

    round();
    for (i = 0; i < ROUNDS; ++i) {
        cond_resched();
        took[i] = round();
    }
    sort(took, ROUNDS, sizeof(took[0]), compare, NULL);
    scaled = div_u64(took[ROUNDS / 2] * 10000 + OPERATIONS / 2, OPERATIONS);
    scaled = div_u64_rem(scaled, 10000, &rest);
    printk(KERN_INFO "bench %s %llu.%04u ticks\n", name, scaled, rest);
}

// A function that runs `body` for i from 0 to OPERATIONS-1 in steps of `step`.
#define ROUND(function, step, body)                                                                          \
    static noinline u64 function(void)                                                                       \
    {                                                                                                        \
        struct page **const page = pages;                                                                    \
        const u64 begin = rdtsc();                                                                           \
        u32 i;                                                                                               \
                                                                                                             \
        (void)page;                                                                                          \
        for (i = 0; i < OPERATIONS; i += step)                                                               \
            body;                                                                                            \
        return rdtsc() - begin;                                                                              \
    }
// Two such functions: with and without one load from the mapped page.
#define MAPPING(function, body)                                                                              \
    static __always_inline void function##_op(struct page **page, u32 i, bool touch) body                    \
    ROUND(function, 1, function##_op(page, i, false))                                                        \
    ROUND(function##_touched, 1, function##_op(page, i, true))

static __always_inline void load(const void *at, bool touch)
{
    if (touch)
        (void)READ_ONCE(*(const u32 *)at);
}

MAPPING(local_same, {
    void *at = kmap_local_page(page[0]);
    load(at, touch);
    kunmap_local(at);
})
MAPPING(local_distinct, {
    void *at = kmap_local_page(page[i]);
    load(at, touch);
    kunmap_local(at);
})
static __always_inline void nested(struct page **first, bool touch)
{
    void *at[4];
    int k;

    for (k = 0; k < 4; ++k) {
        at[k] = kmap_local_page(first[k]);
        load(at[k], touch);
    }
    for (k = 4; k-- > 0;)
        kunmap_local(at[k]);
}
MAPPING(local_nested4, { nested(page, touch); })
MAPPING(local_nested4_miss, { nested(page + i * 4 % PAGES, touch); })
MAPPING(atomic_distinct, {
    void *at = kmap_atomic(page[i]);
    load(at, touch);
    kunmap_atomic(at);
})
MAPPING(atomic_same, {
    void *at = kmap_atomic(page[0]);
    load(at, touch);
    kunmap_atomic(at);
})
static __always_inline void map_globally(struct page *page, bool touch)
{
    void *at = kmap(page);

    load(at, touch);
    kunmap(page);
}
MAPPING(kmap_hot, { map_globally(page[0], touch); })
MAPPING(kmap_cycle64, { map_globally(page[i % 64], touch); })
MAPPING(kmap_wrap, { map_globally(page[i], touch); })
MAPPING(vmap16, {
    void *at = vmap(page, VMAP_PAGES, VM_MAP, PAGE_KERNEL);
    load(at, touch);
    vunmap(at);
})
MAPPING(table_same, {
    pte_t *entry = pte_offset_map(&pmd, i << PAGE_SHIFT);
    load(entry, touch);
    pte_unmap(entry);
})
MAPPING(table_distinct, {
    pte_t *entry = pte_offset_map(&pmds[i], i << PAGE_SHIFT);
    load(entry, touch);
    pte_unmap(entry);
})

static void take_all(gfp_t from)
{
    u32 i;

    for (i = 0; i < PAGES; ++i)
        pages[i] = alloc_page(from);
}
static void free_all(void)
{
    u32 i;

    for (i = 0; i < PAGES; ++i)
        __free_page(pages[i]);
}
ROUND(alloc_high, 1, __free_page(alloc_page(GFP_HIGHUSER)))
ROUND(alloc_low, 1, __free_page(alloc_page(GFP_KERNEL)))
ROUND(alloc_high_many, PAGES, {
    take_all(GFP_HIGHUSER);
    free_all();
})
ROUND(alloc_low_many, PAGES, {
    take_all(GFP_KERNEL);
    free_all();
})
ROUND(clear, 1, clear_highpage(page[i]))
ROUND(clear_same, 1, clear_highpage(page[0]))
ROUND(copy, 1, copy_highpage(page[i], page[i ^ 1]))
ROUND(copy_same, 1, copy_highpage(page[0], page[1]))

#define MAPPING_LINES(name, function)                                                                        \
    do {                                                                                                     \
        line(name, function);                                                                                \
        line(name ".touched", function##_touched);                                                           \
    } while (0)

static int __init loft_bench_init(void)
{
    struct sysinfo memory;
    u32 i;

    si_meminfo(&memory);
    pages = kmalloc_array(PAGES, sizeof(pages[0]), GFP_KERNEL);
    pmds = kmalloc_array(PAGES, sizeof(pmds[0]), GFP_KERNEL);
    if (!pages || !pmds || memory.freeram < 8 * PAGES) {
        kfree(pages);
        kfree(pmds);
        return -ENOMEM;
    }

    line("page_alloc.high", alloc_high);
    line("page_alloc.low", alloc_low);
    line("page_alloc.high.many", alloc_high_many);
    line("page_alloc.low.many", alloc_low_many);

    take_all(GFP_HIGHUSER);
    for (i = 0; i < PAGES; ++i)
        pmds[i] = __pmd(((pmdval_t)page_to_pfn(pages[i]) << PAGE_SHIFT) | _PAGE_TABLE);
    pmd = pmds[0];
    if (!PageHighMem(pages[0]))
        printk(KERN_INFO "bench: there is no high memory: the pages are of lowmem\n");
    MAPPING_LINES("kmap_local.same", local_same);
    MAPPING_LINES("kmap_local.distinct", local_distinct);
    MAPPING_LINES("kmap_local.nested4", local_nested4);
    MAPPING_LINES("kmap_local.nested4.miss", local_nested4_miss);
    MAPPING_LINES("kmap_atomic.distinct", atomic_distinct);
    MAPPING_LINES("kmap_atomic.same", atomic_same);
    MAPPING_LINES("kmap.hot", kmap_hot);
    MAPPING_LINES("kmap.cycle64", kmap_cycle64);
    MAPPING_LINES("kmap.wrap", kmap_wrap);
    MAPPING_LINES("pte_offset_map", table_same);
    MAPPING_LINES("pte_offset_map.distinct", table_distinct);
    MAPPING_LINES("vmap16", vmap16);
    line("clear_highpage", clear);
    line("clear_highpage.same", clear_same);
    line("copy_highpage", copy);
    line("copy_highpage.same", copy_same);
    free_all();
    kfree(pmds);
    kfree(pages);
    return 0;
}

static void __exit loft_bench_exit(void)
{
}

module_init(loft_bench_init);
module_exit(loft_bench_exit);
MODULE_DESCRIPTION("loft's benchmark on Linux");
MODULE_LICENSE("Dual MIT/GPL");
