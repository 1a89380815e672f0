"""Why was a page refused? Reads the report of a failed allocation and says which check said no.

``lines`` takes what logs put in front of a line away, ``dump`` makes records of a report, ``gfp`` and ``zones`` find
out what the request was allowed to use, ``rules`` has the arithmetic of each kernel, ``model`` puts the numbers into an
emulated machine and asks its watermark check, ``decide`` goes through the zones, ``text`` makes sentences of it.
"""

from emu.explain.decide import Explanation, explain
from emu.explain.dump import DumpError, read_dumps
from emu.explain.text import as_json, as_text

__all__ = ["DumpError", "Explanation", "as_json", "as_text", "explain", "read_dumps"]
