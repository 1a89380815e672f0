"""Two rules that neither Python nor numba enforces, checked on the source of all structs and core functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import shm
from shm import atomic

ROOT = Path(shm.__file__).parents[1]
SOURCES = sorted([*(ROOT / "shm").rglob("*.py"), *(ROOT / "emu").rglob("*.py")])
CORE = {"core", "entry", "seam", "implements"}
IDLE = {"clock_ns", "cpu_relax", "point", "prefetch", "smp_mb"}  # calls that don't look at what is waited for


def _name(node: ast.expr) -> str:
    """The last name of ``core``, ``core(...)``, ``shm.core.core``."""
    if isinstance(node, ast.Call):
        return _name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def core_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and CORE & {_name(each) for each in node.decorator_list}:
            yield node


def _changed_in(loop: ast.While) -> set[str]:
    """Names and fields that the loop assigns."""
    stored = [n for n in ast.walk(loop) if isinstance(n, ast.Name | ast.Attribute) and isinstance(n.ctx, ast.Store)]
    return {_name(node) for node in stored}


def _exits(loop: ast.While) -> Iterator[ast.expr]:
    """The conditions that decide whether the loop goes on, taken apart at ``and``, ``or`` and ``not``."""
    todo = [loop.test]
    for node in ast.walk(loop):
        if isinstance(node, ast.If) and any(isinstance(n, ast.Break | ast.Return) for n in ast.walk(node)):
            todo.append(node.test)
    while todo:
        test = todo.pop()
        if isinstance(test, ast.BoolOp):
            todo += test.values
        elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            todo.append(test.operand)
        else:
            yield test


def plain_spins(tree: ast.AST) -> list[int]:
    """Lines of loops that wait for a field which they read plainly: the optimiser may read it once, and never again."""
    lines = []
    for function in core_functions(tree):
        for loop in [node for node in ast.walk(function) if isinstance(node, ast.While)]:
            if {_name(node) for node in ast.walk(loop) if isinstance(node, ast.Call)} - IDLE:
                continue  # an atomic, or a function that may well change something
            changed = _changed_in(loop)
            for test in _exits(loop):
                read = {_name(node) for node in ast.walk(test) if isinstance(node, ast.Name | ast.Attribute)}
                if any(isinstance(node, ast.Attribute) for node in ast.walk(test)) and not read & changed:
                    lines.append(loop.lineno)
    return lines


def fields_declared_twice(tree: ast.AST) -> list[str]:
    """Python keeps the first one's place and the second one's type, without a word."""
    twice = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and "struct" in {_name(each) for each in node.decorator_list}:
            names = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
            twice += [f"{node.name}.{name}" for name in sorted(set(names)) if names.count(name) > 1]
    return twice


def test_no_core_function_spins_on_a_plain_field() -> None:
    assert {str(path): lines for path in SOURCES if (lines := plain_spins(ast.parse(path.read_text())))} == {}


def test_no_struct_declares_a_field_twice() -> None:
    assert [name for path in SOURCES for name in fields_declared_twice(ast.parse(path.read_text()))] == []


def test_the_lint_sees_the_core() -> None:
    names = {fn.name for path in SOURCES for fn in core_functions(ast.parse(path.read_text()))}
    wanted = {"spin_lock", "_wait_turn", "_wait_as_head", "schedule_point", "wake_up", "read_seqcount_begin"}
    assert names >= wanted | {"ring_reserve"}
    assert set(atomic.__all__) >= IDLE - {"point"}


SPINS = {
    "in the condition": "while z.locked != 0: pass",
    "with a relaxed processor": "while not z.locked: cpu_relax()",
    "in a nested record": "while z.zones[i].lock.owner != ticket: smp_mb()",
    "with a limit": "while z.locked and spins < 100: spins += 1",
    "left by break": "while True:\n        if z.locked == 0: break",
    "left by return": "while True:\n        cpu_relax()\n        if spins == 3 or z.locked == 0:\n            return",
    "by clock": "while clock_ns() < 5 and z.locked: z.spins += 1",
}
FINE = {
    "an atomic": "while load_acquire(z, 'locked') != 0: cpu_relax()",
    "an atomic inside": "while True:\n        if cmpxchg(z, 'locked', 0, 1) == 0: break",
    "a walk along a list": "while node.next != 0: node = node_at(z, node.next)",
    "a search": "while z.pages[i].order != 3: i += 1",
    "a bound": "while i < z.nr: i += 1",
    "its own counter": "while z.count > 0: z.count -= 1",
    "work": "while z.free > batch: free_one(z)",
}


def _planted(loop: str, decorator: str) -> ast.AST:
    return ast.parse(f"{decorator}\ndef f(z, i, ticket, spins):\n    {loop}\n")


def test_planted_spins_are_found() -> None:
    missed = [what for what, loop in SPINS.items() if plain_spins(_planted(loop, "@core(cold=True)")) != [3]]
    assert missed == []


def test_loops_that_make_progress_are_left_alone() -> None:
    assert [what for what, loop in FINE.items() if plain_spins(_planted(loop, "@entry"))] == []
    assert plain_spins(_planted(SPINS["in the condition"], "@cache")) == []


def test_a_planted_double_field_is_found() -> None:
    planted = "@struct\nclass S(Struct):\n    a: int = i64()\n    b: int = i8()\n    a: int = i32()\n"
    assert fields_declared_twice(ast.parse(planted)) == ["S.a"]
    assert fields_declared_twice(ast.parse(planted.replace("@struct\n", ""))) == []
