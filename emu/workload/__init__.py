"""Workloads: recorded and generated streams of page allocations.

``trace``       the text of a recording; ``gfp_text`` reads its flags
``replay``      a recording as operations, ``replay_ops`` executes them
``case``        recorded kernel cases, ``script`` executes their operations, ``compare`` compares
``driven``      cases in which reclaim and userland take part, with ``driven_ops`` and ``driven_check``
``catalogue``   the generated workloads: ``bulk`` (also rand, repeat), ``frag``, ``pagefault``, ``network``, ``thp``,
                ``mixed``; ``run`` is what each keeps
``watermark``   what ``emu stress slowpath`` does on each CPU
``command``     single operations for library users
"""
