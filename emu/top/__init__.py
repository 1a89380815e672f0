"""``emu top``: a running machine, looked at every second without a lock."""
