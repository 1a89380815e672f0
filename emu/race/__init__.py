"""Races: scenarios, the schedules they are played in, and what is wrong in the end.

General layout: ``scenario`` says what a scenario is, ``world`` boots its machine, ``ops`` and ``invariants`` are what
it consists of, ``scenarios`` the catalogue. ``players`` are its processes; ``plan``, ``choose`` and ``strategies``
decide who goes next, ``judge`` ends a schedule. ``explore``, ``replay``, ``minimize``, ``prove`` and ``spread`` are
what one does with them; ``schedule``, ``verdict``, ``report`` and ``diagram`` show it. ``watch``, ``kcsan`` and
``tso`` need instrumented mode.
"""
