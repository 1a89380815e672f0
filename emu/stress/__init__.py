"""Stress: what locks, interrupts and shortage cost, and what would change it. One module answers one question."""
