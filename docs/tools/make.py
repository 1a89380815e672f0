"""``make docs``: write the generated pages anew; ``--check``: only say which are stale (exit status 1)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import commands
import functions

DOCS = Path(__file__).parent.parent


def pages() -> dict[Path, str]:
    """Every generated file and its text."""
    made = functions.pages() | commands.pages()
    return {DOCS / name: text for name, text in made.items()}


def main() -> int:
    """Write what has changed; what no generator makes any more goes."""
    made = pages()
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    gone = [path for path in (DOCS / "functions").glob("*.md") if path not in made]
    if "--check" in sys.argv:
        sys.stdout.writelines(f"{path}: stale, make docs writes it anew\n" for path in stale + gone)
        return 1 if stale or gone else 0
    for path in stale:
        path.write_text(made[path])
    for path in gone:
        path.unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
