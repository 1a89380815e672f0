"""Shared memory for processes: structs, atomics, locks, and Python functions that compile.

This package knows nothing about pages. General layout, lowest first:

``struct``    C structs declared as Python classes; records are views of memory, never copies
``atomic``    loads, stores and read-modify-writes with acquire/release order, futex, clock
``lowering``  the same as LLVM
``core``      the ``@core`` and ``@entry`` decorators; the modes compiled, checked, interpreted
``program``   what a compiled program consists of, and the keys of the cache
``records``   structs as numba sees them (imported with the compiler only)
``scan``      many records looked at with one vector load each
``point``     scheduling points and call sites, by name; the table of processes
``compiler``  numba front end, one LLVM module, one object file (imported only when something must be compiled)
``loader``    the object cache, and native code without numba
``segment``   one named piece of shared memory: create, attach, unlink
``spinlock``  fair ticket lock that parks on a futex; ``spinlock_types`` its record, ``spinlock_dead`` who died in it
``seqcount``  lock-free consistent reads
``waitqueue`` sleeping and waking processes
``ring``      per-CPU event ring that counts what it lost
"""
