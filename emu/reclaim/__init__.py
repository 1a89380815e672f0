"""Taking memory back: direct reclaim, kswapd (``mm/vmscan.c``) and the OOM killer (``mm/oom_kill.c`` (5.10))."""
