"""``/proc/meminfo``: its rows, and what each is the sum of."""

from emu.proc import meminfo
from tests.proc.test_proc import load, unboosted

MEMINFO = """
    MemTotal MemFree MemAvailable Buffers Cached SwapCached Active Inactive Active(anon) Inactive(anon) Active(file)
    Inactive(file) Unevictable Mlocked SwapTotal SwapFree Dirty Writeback AnonPages Mapped Shmem KReclaimable Slab
    SReclaimable SUnreclaim KernelStack PageTables NFS_Unstable Bounce WritebackTmp CommitLimit Committed_AS
    VmallocTotal
    VmallocUsed VmallocChunk Percpu AnonHugePages ShmemHugePages ShmemPmdMapped FileHugePages FilePmdMapped
    HugePages_Total HugePages_Free HugePages_Rsvd HugePages_Surp Hugepagesize Hugetlb DirectMap4k DirectMap2M
"""


def test_meminfo() -> None:
    state = load("numa_fallback")
    text = meminfo.render(state)
    lines = text.splitlines()
    assert [line.split(":")[0] for line in lines] == MEMINFO.split()
    assert {len(line) for line in lines if not line.startswith(("HugePages_", "VmallocTotal"))} == {27}
    assert text.startswith("MemTotal:         246748 kB\nMemFree:          125584 kB\nMemAvailable:     123368 kB\n")
    assert "kB\nVmallocTotal:   34359738367 kB\n" in text
    assert "kB\nHugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\n" in text
    numbers = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    assert {name: number for name, number in numbers.items() if number} == {
        "MemTotal": 246748, "MemFree": 125584, "MemAvailable": 123368, "Cached": 2776, "Active": 2424, "Inactive": 416,
        "Active(anon)": 2424, "Inactive(anon)": 416, "AnonPages": 64, "Mapped": 1600, "Shmem": 2776,
        "KReclaimable": 2180, "Slab": 5944, "SReclaimable": 2180, "SUnreclaim": 3764, "KernelStack": 400,
        "PageTables": 36, "CommitLimit": 123372, "VmallocTotal": 34359738367, "Hugepagesize": 2048,
    }  # fmt: skip
    free, slab, low = 1599 + 5582 + 24215, 545, 40 + 248 + 512 + 323
    assert meminfo.si_mem_available(state) == free - 827 + slab - min(slab // 2, low) == 123368 // 4
    # Of a large cache the low mark is kept, of a small one half.
    unboosted(state)["nodes"][0]["vm_stat"][2:4] = [3000, 1000]
    assert meminfo.si_mem_available(state) == free - 827 + 4000 - (low - 512) + slab - slab // 2
    state["totalreserve_pages"] = 1 << 40
    assert meminfo.values(state)["MemAvailable"] == 0


def test_meminfo_of_what_only_sysinfo_knows() -> None:
    state = load("numa_fallback")
    state["nr_swap_pages"] = 100
    assert meminfo.values(state)["SwapTotal"] == 400
    state["sysinfo"] = {"totalswap": 256, "swapcache": 6, "bufferram": 88, "committed": 1, "vmalloc": 2, "percpu": 3}
    state["nodes"][0]["vm_stat"][state["node_stat_names"].index("nr_anon_transparent_hugepages")] = 2
    old = meminfo.values(load("numa_fallback"))
    assert {name: value for name, value in meminfo.values(state).items() if value != old[name]} == {
        "Buffers": 352, "Cached": 2776 - 352 - 24, "SwapCached": 24, "SwapTotal": 1024, "SwapFree": 400,
        "CommitLimit": 123372 + 1024, "Committed_AS": 4, "VmallocUsed": 8, "Percpu": 12, "AnonHugePages": 4096,
    }  # fmt: skip
    state["sysinfo"]["bufferram"] = 1 << 20
    assert meminfo.values(state)["Cached"] == 0
    state["migrate_types"], state["sysinfo"] = 6, {"totalcma": 4096}
    cma = "FilePmdMapped:         0 kB\nCmaTotal:          16384 kB\nCmaFree:               0 kB\nHugePages_Total:"
    assert cma in meminfo.render(state)
