"""Classes of spinlocks, with the names that lockdep gives them (``DEFINE_LOCK_CLASS``, ``spin_lock_init()`` (5.10))."""

LOCK_CLASS_TASK = 1
LOCK_CLASS_ZONE = 2
LOCK_CLASS_LRU = 3
LOCK_CLASS_I_PAGES = 4
LOCK_CLASS_PAGE_TABLE = 5
LOCK_CLASS_SWAP = 6
LOCK_CLASS_DISK = 7
LOCK_CLASS_OOM_REAPER = 8
LOCK_CLASS_SLAB = 9
LOCK_CLASS_SLAB_AREA = 10
LOCK_CLASS_CMA = 11
LOCK_CLASS_WORK = 12
LOCK_CLASS_BANDWIDTH = 13
LOCK_CLASS_SWAP_CACHE = 14
LOCK_CLASS_PI = 15

LOCK_CLASS_NAMES = {
    LOCK_CLASS_TASK: "&p->alloc_lock",
    LOCK_CLASS_ZONE: "&zone->lock",
    LOCK_CLASS_LRU: "&pgdat->lru_lock",
    LOCK_CLASS_I_PAGES: "&xa->xa_lock",
    LOCK_CLASS_PAGE_TABLE: "&mm->page_table_lock",
    LOCK_CLASS_SWAP: "&p->lock",  # of struct swap_info_struct *p
    LOCK_CLASS_DISK: "&q->queue_lock",
    LOCK_CLASS_OOM_REAPER: "oom_reaper_lock",
    LOCK_CLASS_SLAB: "&n->list_lock",
    LOCK_CLASS_SLAB_AREA: "slab_lock",
    LOCK_CLASS_CMA: "&cma->lock",
    LOCK_CLASS_WORK: "&pool->lock",
    LOCK_CLASS_BANDWIDTH: "&dom->lock",
    LOCK_CLASS_SWAP_CACHE: "&xa->xa_lock#2",
    LOCK_CLASS_PI: "&p->pi_lock",
}
