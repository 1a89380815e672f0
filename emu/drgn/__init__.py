"""A running machine as a program for drgn, the programmable debugger (extra ``drgn``).

::

    >>> from emu.drgn import program
    >>> prog = program()                                   # the only running machine
    >>> zone = prog["node_data"][0].node_zones[1]
    >>> from drgn.helpers.linux.mmzone import low_wmark_pages
    >>> low_wmark_pages(zone.address_of_())
    1263

Types come from the struct declarations, with the kernel's names and our layouts (``emu.drgn.types``); memory is read
live. drgn's own helpers work as far as names and layouts agree: see docs/drgn.md.
"""

from emu.drgn.program import free_pages_of, pages_of, program

__all__ = ["free_pages_of", "pages_of", "program"]
