"""Compaction (``mm/compaction.c`` (5.10)): used pages move to one end of a zone so that the other becomes free in one
piece.

General layout, lowest first:

``control``         what a run knows; bits of pageblocks
``lock``            locks that are let go of every 32 pages
``skip``            cached positions, and pageblocks not worth another look
``defer``           not compacting for a while after it was in vain
``frag``            how fragmented a zone is
``suitable``        is it worth the trouble?
``isolate_free``    the free scanner
``fast_free``       its shortcut over the free lists; where migration gets its pages
``isolate_migrate`` the migration scanner within a pageblock
``find_migrate``    which pageblock it takes
``compact_zone``    a run over a zone
``direct``          compaction for one's own allocation
``kcompactd``       the daemons, and compacting by hand
``contig``          emptying a range, for contiguous memory of any size
``cma``             the area that serves requests for it

What moves a page is ``emu.mm.migrate``.
"""
