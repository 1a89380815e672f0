"""What a machine is made of: ``machine.toml`` and the command line, checked by pydantic.

::

    cpus = 4
    memory = "1G"            # or: nodes = ["512M", "512M"]
    movable = "64M"          # of each node
    cma = "16M"
    swap = "256M"
    memcg_max = "64M"        # memory.max of the workload's processes; memcg_high: memory.high
    on_death = "stop"        # or "offline": what a CPU's end means where nothing was half done
    unfix = ["R12"]          # without 5.10.262's fix for these races; fix: with one for races that are open there
    disk_latency = 100       # microseconds
    disk_bandwidth = "400M"  # per second
    seed = 1
    workload = "mixed"
    duration = 5.0

    [sysctl]                 # names as in /proc/sys/vm
    watermark_boost_factor = 0

    [boot]                   # kernel command line
    page_owner = true
"""

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from emu.zone.boot import Shape, ShapeError, Tuning, shape_of
from emu.zone.mmzone import (
    MAX_CPUS,
    MAX_NUMNODES,
    PAGE_SHIFT,
    PD_CHECK,
    PD_INIT_ON_ALLOC,
    PD_INIT_ON_FREE,
    PD_OWNER,
    PD_POISON,
)  # fmt: skip
from emu.zone.sysctl import SYSCTLS

__all__ = [
    "Boot", "ConfigError", "MachineConfig", "Sysctl", "load_config", "make_config", "parse_size", "validated",
]  # fmt: skip

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d+)([KMGT]?)(?:i?B)?", re.IGNORECASE)


class ConfigError(ValueError):
    """A machine that can't be described like this: which field, and why."""


def parse_size(text: object) -> int:
    """Bytes of a size as the kernel takes them: ``512M``, ``4G``, or a number of bytes."""
    if isinstance(text, int):
        return text
    found = _SIZE.fullmatch(str(text).strip())
    if not found:
        raise ValueError(f"{text!r} is not a size such as 512M or 4G")
    return int(found[1]) * _UNITS[found[2].upper()]


Model = TypeVar("Model", bound=BaseModel)
Size = Annotated[int, BeforeValidator(parse_size)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_AT_BOOT = (
    "min_free_kbytes", "watermark_boost_factor", "watermark_scale_factor", "percpu_pagelist_fraction",
    "zone_reclaim_mode", "swappiness", "dirty_ratio", "lowmem_reserve_ratio",
)  # fmt: skip


class Sysctl(_Strict):
    """``/proc/sys/vm``"""

    min_free_kbytes: int = Field(default=-1, ge=-1)
    watermark_boost_factor: int = Field(default=15000, ge=0)
    watermark_scale_factor: int = Field(default=10, ge=1, le=3000)
    percpu_pagelist_fraction: int = Field(default=0, ge=0)
    zone_reclaim_mode: int = Field(default=0, ge=0, le=7)
    swappiness: int = Field(default=60, ge=0, le=200)
    dirty_ratio: int = Field(default=20, ge=0, le=100)
    lowmem_reserve_ratio: tuple[int, int, int, int] = (256, 256, 32, 0)
    # None: the kernel's default. Written when the machine has booted, as by `emu ctl`
    dirty_background_ratio: int | None = None
    dirty_expire_centisecs: int | None = None
    dirty_writeback_centisecs: int | None = None
    vfs_cache_pressure: int | None = None
    compaction_proactiveness: int | None = None
    extfrag_threshold: int | None = None
    compact_unevictable_allowed: int | None = None
    min_unmapped_ratio: int | None = None
    min_slab_ratio: int | None = None
    panic_on_oom: int | None = None
    oom_kill_allocating_task: int | None = None
    oom_dump_tasks: int | None = None
    numa_stat: int | None = None
    page_cluster: int | None = Field(default=None, alias="page-cluster")

    @model_validator(mode="after")
    def _in_range(self) -> "Sysctl":
        for name, value in self.later().items():
            what = SYSCTLS[name]
            if not what.low <= value <= what.high:
                raise ValueError(f"{name}: {value} is not in [{what.low}, {what.high}]")
        return self

    def later(self) -> dict[str, int]:
        """Those that are written when the machine has booted."""
        given = self.model_dump(by_alias=True, exclude_none=True)
        return {name: value for name, value in given.items() if name not in _AT_BOOT}


class Boot(_Strict):
    """Boot parameters and debugging."""

    page_owner: bool = False
    page_poison: bool = False
    init_on_alloc: bool = False
    init_on_free: bool = False
    debug_pagealloc: bool = False
    debug_guardpage_minorder: int = Field(default=0, ge=0, le=10)
    page_reporting: bool = False
    transparent_hugepage: bool = True
    deferred_struct_pages: bool = False
    no_cpuset_cookie: bool = False  # the slow path doesn't look whether its cpuset has changed
    no_zonelist_cookie: bool = False  # nor the zonelists


class MachineConfig(_Strict):
    """A machine and what it runs."""

    cpus: int = Field(default=4, ge=1, le=MAX_CPUS)
    memory: Size = 1 << 30
    nodes: tuple[Size, ...] = Field(default=(), max_length=MAX_NUMNODES)
    movable: Size = 0
    cma: Size = 0
    swap: Size = 0
    memcg_max: Size = 0
    memcg_high: Size = 0
    disk_latency: int = Field(default=100, ge=0)
    disk_bandwidth: Size = 400 << 20
    hotplug: Size = 0  # room for memory that is plugged in at run time
    memory_block: Size = 0  # what goes offline and online together; 0: 128M, or less on a small machine
    seed: int = 1
    workload: str = "mixed"
    fill: float = Field(default=1.0, gt=0, le=4)
    duration: float = Field(default=5.0, gt=0)
    operations: int = Field(default=0, ge=0)
    trace: bool = False
    lock_stat: bool = False
    irq_stat: bool = False
    pin: bool = True
    on_death: Literal["stop", "offline"] = "stop"  # what a CPU's end means where nothing was half done
    fix: tuple[str, ...] = ()  # races open in 5.10.262 (`emu race list`) that this machine has a fix for
    unfix: tuple[str, ...] = ()  # races that this machine lacks 5.10.262's fix for
    sysctl: Sysctl = Sysctl()
    boot: Boot = Boot()

    @model_validator(mode="after")
    def _possible(self) -> "MachineConfig":
        self.shape()
        self.deviations()
        if self.cma % (4 << 20):
            raise ValueError(f"cma: {self.cma} bytes is no multiple of 4M: smaller parts would merge with other memory")
        if self.swap and not 1 << 20 <= self.swap <= 1 << 37:
            raise ValueError(f"swap: {self.swap} bytes, a swap device has from 1 MiB to 128 GiB")
        if self.disk_bandwidth < 1 << 20:
            raise ValueError(f"disk_bandwidth: {self.disk_bandwidth} bytes a second, 1M is the least")
        if self.cma and self.cma >= min(self.node_bytes()) // 2:
            raise ValueError(f"cma: {self.cma >> 20} MiB is half of a node or more")
        if self.memory_block and (self.memory_block < 4 << 20 or self.memory_block & (self.memory_block - 1)):
            raise ValueError(f"memory_block: {self.memory_block} bytes is no power of two from 4M on")
        if self.hotplug % (self.shape().block_pages << 12):
            raise ValueError(f"hotplug: {self.hotplug} bytes is no multiple of {self.shape().block_pages >> 8}M")
        pages = sum(self.node_bytes()) >> 12
        if self.sysctl.min_free_kbytes >> 2 >= pages // 2:
            raise ValueError(f"memory: {pages * 4} KiB is too little for min_free_kbytes={self.sysctl.min_free_kbytes}")
        return self

    def node_bytes(self) -> tuple[int, ...]:
        """Memory of each node in bytes."""
        return self.nodes or (self.memory,)

    def shape(self) -> Shape:
        """The hardware."""
        try:
            made = shape_of(self.cpus, [size >> 12 for size in self.node_bytes()], self.movable >> 12)
            return replace(made, swap=self.swap >> 12, hotplug=self.hotplug >> 12, memory_block=self.memory_block >> 12)
        except ShapeError as err:
            raise ValueError(str(err)) from err

    def deviations(self) -> int:
        """From 5.10.262, as ``Machine.deviations`` has them."""
        if not self.fix and not self.unfix:
            return 0
        from emu.race.variant import deviation_bits  # the whole catalogue: only where somebody asks for it

        return deviation_bits(self.fix, self.unfix)

    def tuning(self) -> Tuning:
        """Sysctls and boot parameters for the allocator."""
        b, s = self.boot, self.sysctl
        debug = (
            PD_OWNER * b.page_owner | PD_POISON * b.page_poison | PD_INIT_ON_ALLOC * b.init_on_alloc
            | PD_INIT_ON_FREE * b.init_on_free | PD_CHECK * b.debug_pagealloc
        )  # fmt: skip
        return Tuning(
            **s.model_dump(include=set(_AT_BOOT)), page_debug=debug,
            debug_guardpage_minorder=b.debug_guardpage_minorder, page_reporting=b.page_reporting,
            transparent_hugepage=b.transparent_hugepage, cma=self.cma >> 12,
            deferred=b.deferred_struct_pages, lock_stat=self.lock_stat,
            lock_events=self.lock_stat and self.trace, irq_stat=self.irq_stat, no_cpuset_cookie=b.no_cpuset_cookie,
            no_zonelist_cookie=b.no_zonelist_cookie, deviations=self.deviations(),
            disk_latency_ns=self.disk_latency * 1000,
            disk_page_ns=(1_000_000_000 << PAGE_SHIFT) // self.disk_bandwidth,
        )  # fmt: skip


def make_config(values: dict[str, Any], source: str) -> MachineConfig:
    """A machine from plain values."""
    return validated(MachineConfig, values, source)


def validated(model: type[Model], values: dict[str, Any], source: str) -> Model:
    """A checked model; every problem in one line with its place."""
    try:
        return model.model_validate(values)
    except ValidationError as err:
        parts = []
        for e in err.errors():
            where = ".".join(str(p) for p in e["loc"])
            message = str(e["msg"]).removeprefix("Value error, ")
            parts.append(f"{where}: {message}" if where else message)
        raise ConfigError(f"{source}: {'; '.join(parts)}") from err


def load_config(path: Path | None, overrides: dict[str, Any]) -> MachineConfig:
    """A machine.toml, with values from the command line on top."""
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text())
        except OSError as err:
            raise ConfigError(f"{path}: {err.strerror}") from err
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
            raise ConfigError(f"{path}: not a TOML file: {err}") from err
    for name, value in overrides.items():
        if isinstance(value, dict):
            values[name] = {**values.get(name, {}), **value}
        else:
            values[name] = value
    return make_config(values, str(path) if path else "machine")
