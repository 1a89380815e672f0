"""Strategies: who goes next. A file each; ``emu.race.choose`` calls them by number."""
