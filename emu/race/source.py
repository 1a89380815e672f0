"""The Python source of a scenario, by itself: a file that can be changed and run (``emu race show --source``)."""

import ast
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from emu.race import scenarios
from emu.race.scenario import Scenario

__all__ = ["source_of"]


def _home(scenario: Scenario) -> tuple[ModuleType, str] | None:
    """The module of the catalogue that has it, and its name there."""
    for found in pkgutil.iter_modules(scenarios.__path__):
        module = importlib.import_module(f"{scenarios.__name__}.{found.name}")
        for name, value in vars(module).items():
            if value is scenario:
                return module, name
    return None


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _defined(node: ast.stmt) -> set[str]:
    """What a statement of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {name for target in node.targets for name in _names(target)}
    if isinstance(node, ast.AnnAssign):
        return _names(node.target)
    return set()


def source_of(scenario: Scenario) -> str:
    """A file with this scenario alone, and what it needs of its module."""
    home = _home(scenario)
    if home is None:
        return ""
    module, wanted = home
    text = Path(str(module.__file__)).read_text()
    tree = ast.parse(text)
    needed, kept = {wanted}, set[ast.stmt]()
    more = True
    while more:
        more = False
        for node in tree.body:
            if node not in kept and _defined(node) & needed and "SCENARIOS" not in _defined(node):
                kept.add(node)
                needed |= _names(node)
                more = True
    parts: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names = [a for a in node.names if (a.asname or a.name) in needed]
            if names:
                parts.append(ast.unparse(ast.ImportFrom(node.module, names, node.level)))
        elif node in kept:
            gap = "\n\n" if isinstance(node, ast.FunctionDef) else "\n"
            parts.append(gap + (ast.get_source_segment(text, node) or "") + gap.removesuffix("\n"))
    title = f'"""{scenario.id}: {scenario.title}."""'
    return "\n".join([title, "", *parts, "", f"SCENARIOS = ({wanted},)", ""])
