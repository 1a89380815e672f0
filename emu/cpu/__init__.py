"""What a processor does: allocate, free, drain, take interrupts.

General layout, lowest first:

``task``       the current task: scopes, memory cgroup
``mempolicy``  memory policies of tasks
``cpuset``     which nodes a task may use; cpusets and their tree
``pageset``    per-cpu lists: taking, refilling, freeing, draining
``workqueue``  work for one CPU, done by that CPU
``free``       ``__free_pages`` and below
``prep``       a page on its way out: post_alloc_hook and its debugging
``rmqueue``    one zone's allocator
``page_alloc`` the fast path: ``alloc_pages`` to ``get_page_from_freelist``
``seams``      where the allocator calls up: slow path, reclaim, compaction, OOM
``dirty``      dirty limits of nodes
``cookies``    did nodes or zones change under an allocation?
``slowpath``   everything after the first failure; ``warn_alloc`` reports it, ``avoidable`` says what would have helped
``irq``        what interrupts do
``process``    the OS process that is a CPU
"""
