"""Address spaces, files, swap and the disk (``include/linux/mm_types.h``, ``fs.h``, ``swap.h`` (5.10)).

``Vm`` lies at ``Machine.vm``; the tables it names follow it. Slots of address spaces and files are flat arrays, one
i64 for each page, in a sparse part of the segment: those that nobody touched take no memory.

An owner of a page is one number in ``page.mapping``: ``file id << 2``, or ``mm id << 2 | PAGE_MAPPING_ANON``; ids
count from 1. ``page.index`` is the page's slot there. ``page.private`` of a page on an LRU list has its memory cgroup
in the bits from ``PRIVATE_MEMCG_SHIFT`` on, and while PG_swapcache is set its swap slot below.
"""

from emu.zone.ctl_types import MAX_CPUSETS, Cpuset, CtlRequest
from emu.zone.mmzone import MAX_NUMNODES, Machine
from emu.zone.types import AtomicLong
from emu.zone.ratelimit import RateLimit
from emu.zone.slow_types import SlowStat
from shm.core import core
from shm.spinlock_types import Spinlock
from shm.struct import Array, At, Struct, array, embed, fixed, i32, i64, size_of, struct, u8, u32
from shm.waitqueue import WaitQueue

PRIVATE_MEMCG_SHIFT = 26
PRIVATE_SWAP_MASK = (1 << PRIVATE_MEMCG_SHIFT) - 1

# A slot of a file (struct xarray i_pages): 0, or a value << 2 with what it is in the low bits
XA_PAGE = 1  # pfn of a page in the page cache
XA_SHADOW = 2  # workingset shadow of an evicted page
XA_SWAP = 3  # swap entry of a tmpfs page

# A slot of an address space (page table entry): 0, or pfn or swap entry << PTE_SHIFT with these bits
PTE_PRESENT = 1
PTE_YOUNG = 2
PTE_DIRTY = 4
PTE_WRITE = 8
PTE_SWAP = 16  # the value is a swap entry
PTE_MIGRATION = 32  # the value is the pfn of a page that is being migrated
PTE_FILE = 64  # maps a page of a file
PTE_SPECIAL = 128  # the zero page: present, with pfn 0, and not counted anywhere
PTE_SHIFT = 8
PTRS_PER_PTE = 512

AS_NONE = 0
AS_FILE = 1
AS_SHMEM = 2
MAX_FILES = 128  # below 256: 256 << 2 is TAIL_MAPPING
MAX_MMS = 250

VM_WRITE = 2
VM_EXEC = 4
VM_SHARED = 8
VM_LOCKED = 0x2000

MM_FILEPAGES = 0
MM_ANONPAGES = 1
MM_SWAPENTS = 2
MM_SHMEMPAGES = 3

MMF_OOM_SKIP = 1
MMF_UNSTABLE = 2
MMF_OOM_VICTIM = 4
MMF_OOM_REAP_QUEUED = 8
MMF_OOM_REAP_DONE = 16  # the oom_reaper, or the killer on its behalf, looks at it no longer

COMMS = ("swapper", "kswapd", "kcompactd", "disk", "flusher", "oom_reaper", "driver", "hog", "sh", "filecache",
         "forkstorm", "pagefault", "thp", "network", "frag", "mixed", "init", "user", "otool")  # fmt: skip


@struct
class Slot(Struct):
    """One entry of a file's or an address space's table."""

    value: int = i64()


@struct
class AddressSpace(Struct):
    """``struct address_space`` with its inode and the ``file_ra_state`` of its one reader."""

    _align_ = 64

    kind: int = i32()  # AS_*
    i_pages: int = fixed(i64)  # offset of its slots
    nr_slots: int = i64()  # pages of the file
    nrpages: int = i64()
    nrexceptional: int = i64()
    nr_dirty: int = i64()
    i_pages_lock: Spinlock = embed(Spinlock)
    nr_mmaps: int = i32()  # entries of i_mmap that were ever used, with holes
    i_mmap: Array[int] = array(i32, 64)  # mappings of it: mm id << 8 | vma number; 0: none
    writeback_index: int = i64()
    dirtied_when: int = i64()  # ns of the first dirtying since it was last written out; 0: clean
    ra_start: int = i64()
    ra_size: int = i64()
    ra_async_size: int = i64()
    ra_pages: int = i64()
    prev_pos: int = i64()
    mmap_miss: int = i64()


@struct
class Vma(Struct):
    """``struct vm_area_struct``: slots ``[start, end)`` of an address space."""

    start: int = i64()
    end: int = i64()
    file: int = i32()  # 0: anonymous
    vm_flags: int = u32()
    pgoff: int = i64()


MAX_VMAS = 8


@struct
class Mm(Struct):
    """``struct mm_struct``"""

    _align_ = 64

    mm_users: int = i32()  # 0: free
    mm_flags: int = u32()  # MMF_*
    owner: int = i64()  # offset of its task
    pgd: int = fixed(i64)  # offset of its slots
    pmd: int = fixed(i64)  # offset of a Slot per page table: pfn + 1 of the table's page
    nr_slots: int = i64()
    page_table_lock: Spinlock = embed(Spinlock)
    rss_stat: Array[AtomicLong] = array(AtomicLong, 4)  # MM_*
    nr_page_tables: int = i64()
    total_vm: int = i64()
    locked_vm: int = i64()
    nr_vmas: int = i32()
    memcg: int = i32()
    vmas: Array[Vma] = array(Vma, MAX_VMAS)
    hiwater_rss: int = i64()


@struct
class SwapInfo(Struct):
    """``struct swap_info_struct`` of the one swap device; ``pages`` 0: none."""

    pages: int = i64()
    inuse_pages: int = i64()
    cluster_next: int = i64()
    lowest_bit: int = i64()
    highest_bit: int = i64()
    cluster_nr: int = i64()  # slots left in the cluster that is being filled
    nrpages: int = i64()  # pages in the swap cache
    add_total: int = i64()  # struct swap_cache_info: counted without a lock
    del_total: int = i64()
    find_success: int = i64()
    find_total: int = i64()
    ra_hits: AtomicLong = embed(AtomicLong)  # readahead pages that were wanted
    ra_prev_offset: int = i64()
    ra_last_pages: int = i64()
    swap_map: int = fixed(i64)  # offset of a SwapCount per slot
    swap_cache: int = fixed(i64)  # offset of a Slot per slot: XA_PAGE or XA_SHADOW
    si_lock: Spinlock = embed(Spinlock)  # swap_info_struct.lock: the slots
    swap_lock: Spinlock = embed(Spinlock)  # i_pages.xa_lock of the swap cache: swap_cache and nrpages, irqs off


@struct
class SwapCount(Struct):
    """One byte of ``swap_map``, and the slot's ``struct swap_cgroup``"""

    count: int = u8()
    memcg: int = u8()  # index + 1 of the memory cgroup that swapped it out; 0: the root


@struct
class Bio(Struct):
    """One request to the disk: one page."""

    pfn: int = i64()
    what: int = i32()  # BIO_* of emu.mm.disk
    owner: int = i32()
    submitted: int = i64()  # CLOCK_MONOTONIC ns


DISK_QUEUE = 1024


@struct
class Disk(Struct):
    """The one block device, for files and swap."""

    queue_lock: Spinlock = embed(Spinlock)
    head: int = i64()
    tail: int = i64()
    latency_ns: int = i64()
    page_ns: int = i64()  # transfer time of a page
    disk_wait: WaitQueue = embed(WaitQueue)  # the disk's process, idle
    room_wait: WaitQueue = embed(WaitQueue)  # submitters, the queue full
    congestion_wait: WaitQueue = embed(WaitQueue)
    reads: int = i64()
    writes: int = i64()
    busy_until: int = i64()
    congested_at: int = i64()  # queued requests from which on the device calls itself congested; 0: never, as blk-mq
    congested: int = u32()
    queue: Array[Bio] = array(Bio, DISK_QUEUE)


@struct
class Writeback(Struct):
    """``struct bdi_writeback`` of the one device, and ``global_wb_domain``. Bandwidths in pages a second."""

    wb_state: int = u32()  # WB_* of emu.mm.flusher
    dirty_exceeded: int = i32()
    last_old_flush: int = i64()  # jiffies
    dirty_limit: int = i64()
    dirty_limit_tstamp: int = i64()  # jiffies
    bw_lock: Spinlock = embed(Spinlock)
    bw_time_stamp: int = i64()  # jiffies
    dirtied_stamp: int = i64()
    written_stamp: int = i64()
    write_bandwidth: int = i64()
    avg_write_bandwidth: int = i64()
    dirty_ratelimit: int = i64()
    balanced_dirty_ratelimit: int = i64()
    nr_writeback: AtomicLong = embed(AtomicLong)  # WB_WRITEBACK: pages of files that are being written
    nr_written: AtomicLong = embed(AtomicLong)  # WB_WRITTEN


@struct
class CmaArea(Struct):
    """``struct cma``: the machine's one area; ``count`` 0: none."""

    base_pfn: int = i64()
    count: int = i64()
    bitmap: int = fixed(i64)  # offset of a Slot for every 32 pages
    bitmap_lock: Spinlock = embed(Spinlock)
    cma_mutex: int = u32()  # one allocation at a time: its index + 1


PAGE_WAIT_TABLE = 256


@struct
class Kswapd(Struct):
    """The local variables of a node's ``kswapd()``, which outlive a round of its process."""

    step: int = i32()  # KSWAPD_* of emu.reclaim.kswapd
    alloc_order: int = i32()
    reclaim_order: int = i32()
    highest_zoneidx: int = i32()
    cookie: int = i64()  # of its wait while it sleeps
    paced: int = i64()  # its first so many runs begin when they are told to; 0: it runs as soon as it is woken
    may_run: int = i64()
    runs: int = i64()
    stolen_before: int = i64()  # its PGSTEAL_KSWAPD when the present run began
    pressure: int = i64()  # 1: it is awake, and per-cpu counters drift less
    task: int = i64()  # pgdat->kswapd: offset of its task; 0: it was stopped, or never begun
    kswapd_lock: int = u32()  # later kernels' lock of that: the owner's index + 1
    null_derefs: int = u32()  # times that somebody followed it when it was 0: crashes, in a kernel
    pi_lock: Spinlock = embed(Spinlock)  # its task's; taken by scheduled processes only


MMU_GATHER_BUNDLE = 8
MAX_GATHER_BATCH = 510
MAX_GATHER_BATCH_COUNT = 19


@struct
class GatherPages(Struct):
    """The pages that a CPU has unmapped and not yet freed (``struct mmu_gather_batch``)."""

    batches: Array[int] = array(i64, MAX_GATHER_BATCH_COUNT)  # pfns of the batches' own pages
    pages: Array[int] = array(i64, MMU_GATHER_BUNDLE + MAX_GATHER_BATCH * MAX_GATHER_BATCH_COUNT)


@struct
class ListBug(Struct):
    """A corrupt list that checked mode has met. Links as in ListHead."""

    kind: int = i32()  # 0: none
    node: int = u32()  # the entry that was to be added or removed
    at: int = u32()  # whose link was wrong
    expected: int = u32()
    found: int = u32()
    _hole: int = i32()


@struct
class Vm(Struct):
    """What memory management has beyond zones and CPUs."""

    _align_ = 64

    files: int = fixed(i64)  # offset of AddressSpace[nr_files]; file id f is number f - 1
    nr_files: int = fixed(i32)
    nr_mms: int = fixed(i32)
    mms: int = fixed(i64)  # offset of Mm[nr_mms]
    slab: int = fixed(i64)  # offset of a Slab (emu.mm.slab)
    gathers: int = fixed(i64)  # offset of GatherPages[nr_parties]
    file_slots: int = fixed(i64)  # most pages of a file
    mm_slots: int = fixed(i64)  # most pages of an address space
    boot_ns: int = i64()  # CLOCK_MONOTONIC at jiffies 0
    recorded: int = i32()  # memory was loaded from a recorded state, which doesn't say who owns each page
    swap: SwapInfo = embed(SwapInfo)
    disk: Disk = embed(Disk)
    page_waits: Array[WaitQueue] = array(WaitQueue, PAGE_WAIT_TABLE)
    # /proc/sys/vm
    dirty_background_ratio: int = i32()
    dirty_expire_centisecs: int = i32()
    dirty_writeback_centisecs: int = i32()
    page_cluster: int = i32()
    vfs_cache_pressure: int = i32()
    compaction_proactiveness: int = i32()
    extfrag_threshold: int = i32()
    compact_unevictable_allowed: int = i32()
    panic_on_oom: int = i32()
    oom_kill_allocating_task: int = i32()
    oom_dump_tasks: int = i32()
    min_unmapped_ratio: int = i32()
    min_slab_ratio: int = i32()
    # switches: remove a check that 5.10 has, to see what it is for
    no_cpuset_cookie: int = i32()
    no_zonelist_cookie: int = i32()
    # the OOM killer
    oom_lock: int = u32()  # of these locks: the owner's index + 1
    oom_victims: AtomicLong = embed(AtomicLong)
    oom_reaper_list: Array[int] = array(i32, 16)  # numbers of the user tasks to reap, from 1
    oom_reaper_nr: int = i64()
    oom_reaper_lock: Spinlock = embed(Spinlock)
    oom_reaper_wait: WaitQueue = embed(WaitQueue)
    panicked: int = u32()  # OOM_PANIC_* + 1
    oom_killer_disabled: int = i32()
    # reports with Mem-Info (emu.zone.console)
    console: int = u32()  # somebody prints them
    reports: int = u32()
    reports_printed: int = u32()
    oom_reaper_delay_ns: int = i64()  # a victim's time to exit by itself before it is reaped
    oom_rs: RateLimit = embed(RateLimit)
    nopage_rs: RateLimit = embed(RateLimit)
    # cpusets
    cpuset_mutex: int = u32()
    cpusets_insane_config: int = i32()  # a cpuset has movable memory only
    cpusets: Array[Cpuset] = array(Cpuset, MAX_CPUSETS)
    ctl: CtlRequest = embed(CtlRequest)
    # writeback
    wb: Writeback = embed(Writeback)
    flusher_wait: WaitQueue = embed(WaitQueue)
    nr_wb_congested: AtomicLong = embed(AtomicLong)
    legacy_memcg: int = i32()  # cgroup v1: reclaim of a cgroup waits for writeback
    kswapds: Array[Kswapd] = array(Kswapd, MAX_NUMNODES)
    # memory hotplug
    zonelist_update_seq: int = i64()  # odd while zonelists are rebuilt
    mem_hotplug_lock: int = u32()
    memory_block: int = fixed(i64)  # pages that go offline and online together
    offline_passes: int = i64()  # of offline_pages() over pages that don't come free; 0: until it is interrupted
    pgfree_surplus: int = i64()  # pages that PGFREE counts or will, but PGALLOC never did: onlined, taken as a range
    cma: CmaArea = embed(CmaArea)
    khugepaged: int = i32()  # it runs: min_free_kbytes is what huge pages need, or more
    # kcompactd, by node
    kcompactd_until: Array[int] = array(i64, MAX_NUMNODES)  # CLOCK_MONOTONIC ns when its sleep ends; 0: not begun
    kcompactd_defer: Array[int] = array(i64, MAX_NUMNODES)  # proactive rounds left out
    list_bug: ListBug = embed(ListBug)
    slow_stat: SlowStat = embed(SlowStat)


VM_SIZE = size_of(Vm)
GATHER_SIZE = size_of(GatherPages)
ADDRESS_SPACE_SIZE = size_of(AddressSpace)
MM_SIZE = size_of(Mm)
SLOT_SIZE = size_of(Slot)
SWAP_COUNT_SIZE = size_of(SwapCount)

vm_at = At(Vm)
gather_pages = At(GatherPages)
file_record = At(AddressSpace)
mm_record = At(Mm)
slot_at = At(Slot)
swap_count_at = At(SwapCount)


@core(inline=True)
def file_at(m: Machine, vm: Vm, file: int) -> int:
    """Offset of a file's address space by its id (from 1)."""
    return vm.files + (file - 1) * ADDRESS_SPACE_SIZE


@core(inline=True)
def mm_at(m: Machine, vm: Vm, mm: int) -> int:
    """Offset of an address space by its id (from 1)."""
    return vm.mms + (mm - 1) * MM_SIZE
