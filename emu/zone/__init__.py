"""What lies in shared memory: zones, pages, free lists, per-cpu areas, and the functions that keep them right.

General layout, lowest first:

``mmzone``     every struct: page, zone, node, pageset, cpu, task, machine
``gfp``        allocation flags and what they say about zone and migratetype
``page``       pfn and page, page flags, compound pages
``list``       the kernel's circular lists, linked by offset
``event``      trace points and reports, into the CPU's ring
``irq``        interrupt state, locks taken with interrupts off
``vmstat``     counters and their per-cpu differentials
``pageblock``  migratetype and bits of a block of 512 pages
``bad_page``   is this page in the state a free page must be in?
``buddy``      the free lists: split, merge, take
``fallback``   stealing from another migratetype
``watermark``  may this zone be used?
``nodemask``   sets of nodes
``zonelist``   which zones, in which order
``highatomic`` blocks kept for high-order atomic requests
``kswapd_wake`` waking a node's kswapd
``isolation``  free pages taken out for compaction, free lists turned
``setup``      watermarks, reserves, thresholds, pcp sizes
``boot``       geometry of a machine, and filling its memory
``init``       records, zonelists and memory of a machine from nothing
``deferred``   struct pages left for later, and zones that grow
``snapshot``   the whole state as plain data, out and in
``census``     who has which page: lists walked, pages classed
``board``      a machine's memory without processes
``validate``   every invariant, checked
``gfp_names``  gfp flags by name
``report``     bad pages, warnings and failures in the kernel's words
``task_stats`` passes through the slow path, by task and reason; what they cost
``slow_stat``  measuring the slow path; ``slow_types`` what is counted
``report_oom`` the OOM killer's reports
``ratelimit``  one report in so many seconds
``ctl_types``  cpusets, and requests to a running machine
``sysctl``     /proc/sys/vm, read and written while the machine runs
"""
