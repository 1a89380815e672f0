"""Stress: who waits, how long, where, and what would change it.

General layout, one question a file:

``irq``            interrupts against allocation
``unsafe``         what happens without ``local_irq_save()``
``irq_source``     the process that raises them
``slowpath``       what allocations cost at the watermarks; ``slowpath_text`` says it in words
"""
