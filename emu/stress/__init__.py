"""Stress: who waits, how long, where, and what would change it.

General layout, one question a file:

``lock``           who waits for zone->lock; ``sweep``, ``page`` and ``cluster`` for many such measurements
``irq``            interrupts against allocation
``unsafe``         what happens without ``local_irq_save()``
``irq_source``     the process that raises them
``kill``           CPU processes that are killed at random instants
``sight``          what shared memory says of a frozen process
``slowpath``       what allocations cost at the watermarks; ``slowpath_text`` says it in words
``oversubscribe``  many more CPU processes than cores
``all``            every one of them, small or at full size
"""
