"""Where the source is: what the documentation is made of, and tools that make it."""

import sys
from types import ModuleType

import pytest

from tests.docs.pages import ROOT

TOOLS = ROOT / "docs" / "tools"

needs_source = pytest.mark.skipif(not (ROOT / "emu").is_dir(), reason="there is no source here to compare with")


def tool(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of docs/tools, which is no package."""
    monkeypatch.syspath_prepend(str(TOOLS))
    module: ModuleType = __import__(name)
    monkeypatch.setitem(sys.modules, name, module)
    return module
