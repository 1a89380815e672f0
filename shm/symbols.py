"""Which function an instruction belongs to: the symbol table of the compiled program (``kallsyms``)."""

import bisect
import io
from dataclasses import dataclass

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from shm.core import INTERPRETED, Entry
from shm.loader import loaded_program

__all__ = ["Symbols"]


@dataclass(frozen=True)
class Symbols:
    """Functions of a loaded program, by address. What was inlined is part of the function around it."""

    starts: list[int]
    ends: list[int]
    names: list[str]

    @classmethod
    def of(cls, entry: Entry) -> "Symbols":
        """The program that an entry was loaded with; empty when interpreted."""
        if INTERPRETED:
            return cls([], [], [])
        code, names, known = loaded_program(entry)
        table = ELFFile(io.BytesIO(code)).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        functions = [s for s in table.iter_symbols() if s["st_info"]["type"] == "STT_FUNC"]
        bases = {s["st_shndx"]: at - s["st_value"] for s in functions if (at := known.get(s.name)) is not None}
        rows = sorted(
            (bases[s["st_shndx"]] + s["st_value"], s["st_size"], s.name) for s in functions if s["st_shndx"] in bases
        )
        return cls(
            [at for at, _, _ in rows], [at + size for at, size, _ in rows], [names.get(s, s) for _, _, s in rows]
        )

    def function(self, address: int) -> str:
        """``rmqueue_bulk+0x1a/0x340``, as ``%pS`` prints it; ``elsewhere`` for what isn't of the program."""
        at = bisect.bisect_right(self.starts, address) - 1
        if at < 0 or address >= self.ends[at]:
            return "elsewhere"
        size = self.ends[at] - self.starts[at]
        return f"{self.names[at]}+{address - self.starts[at]:#x}/{size:#x}"
