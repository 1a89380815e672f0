"""docs/functions/*.md: which of our functions is which of the kernel's, read from the docstrings (nothing is imported).

A docstring that begins with a kernel function's name is that function: ``mm/page_alloc.c:rmqueue() (5.10)``. One that
says "The loop of ``shrink_list()``" is a part of it; any other that names one is beside it. What follows
``Differs from 5.10:`` goes into the third column. Which module is in which family is in families.toml.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FAMILIES = Path(__file__).with_name("families.toml")
ROOMS = ("zone", "cpu", "mm", "compact", "reclaim")  # the model; the other rooms look at it or use it

NAME = re.compile(r"``(?:[\w/.-]+:)?\w+\(\)(?: \(5\.10(?:\.\d+)?\))?``")
LEADING = re.compile(rf"{NAME.pattern}(?:(?:, | and |, and |; ){NAME.pattern})*")
PART = re.compile(rf"(?:\b(?:of|in) |^What ){NAME.pattern}")
CORE = {"core", "entry", "seam", "implements"}
DIFFERS = "Differs from 5.10:"


@dataclass(frozen=True)
class Row:
    """One of our functions beside the kernel's."""

    kernel: str  # Markdown
    ours: str  # Markdown
    differs: str  # Markdown; empty: it doesn't

    @property
    def beside(self) -> bool:
        """Ours alone: there is nothing to differ from."""
        return self.kernel.startswith("beside ")


@dataclass(frozen=True)
class Module:
    """A source file of the model."""

    path: str  # relative to the repository
    about: str  # first paragraph of its docstring, Markdown
    differs: str  # of the whole module
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Family:
    """A page: what belongs together, in the order of reading."""

    page: str  # file name without ending
    title: str
    text: str
    modules: tuple[str, ...]


def markdown(text: str) -> str:
    """A docstring's markup as Markdown, in one line."""
    text = re.sub(r":\w+:`[~.]?([^`]+)`", r"`\1`", text).replace("``", "`")
    return " ".join(text.split())


def deviation(doc: str) -> str:
    """What a docstring says after ``Differs from 5.10:``, to the end of its paragraph or list."""
    _, found, rest = doc.partition(DIFFERS)
    if not found:
        return ""
    if rest.startswith("\n\n- "):
        items = rest.strip().split("\n\n")[0]
        return markdown(re.sub(r"(?m)^- ", "", items))
    return markdown(rest.split("\n\n")[0])


def decorators(node: ast.FunctionDef) -> set[str]:
    """Names of a function's decorators."""
    names = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
    return {n.id for n in names if isinstance(n, ast.Name)}


def kernel_names(doc: str) -> str:
    """The kernel column; empty where the first paragraph names no function."""
    first = " ".join(doc.split("\n\n")[0].split())
    leading = LEADING.match(first)
    how = "" if leading else "part of " if PART.search(first) else "beside "
    found = NAME.findall(leading.group() if leading else first)
    names = [re.sub(r" \(5\.10(\.\d+)?\)", "", n).replace("``", "`") for n in found]
    return how + ", ".join(dict.fromkeys(names)) if names else ""


def row_of(node: ast.FunctionDef) -> Row | None:
    """The function's line in the table, if it has to do with one of the kernel's."""
    doc = ast.get_docstring(node) or ""
    kernel = kernel_names(doc)
    ours = f"`{node.name}`, a seam" if "seam" in decorators(node) else f"`{node.name}`"
    return Row(kernel, ours, deviation(doc)) if kernel else None


def read_module(path: Path) -> Module:
    """What a source file says about itself."""
    tree = ast.parse(path.read_text())
    doc = ast.get_docstring(tree) or ""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and decorators(n) & CORE]
    rows = tuple(row for node in functions if (row := row_of(node)))
    return Module(
        path.relative_to(ROOT).as_posix(), markdown(doc.split("\n\n")[0].partition(DIFFERS)[0]), deviation(doc), rows
    )


def read_model() -> dict[str, Module]:
    """All modules of the model that have functions of the kernel's, by path."""
    paths = [path for room in ROOMS for path in sorted((ROOT / "emu" / room).rglob("*.py"))]
    return {m.path: m for m in map(read_module, paths) if m.rows}


def read_families() -> list[Family]:
    """The pages, in the order of reading."""
    data = tomllib.loads(FAMILIES.read_text())
    return [Family(page, f["title"], f["text"].strip(), tuple(f["modules"])) for page, f in data.items()]


def link(path: str) -> str:
    """To a source file, from docs/functions; the site takes the link away (hooks.py)."""
    return f"[{path}](../../{path})"


def cell(text: str) -> str:
    """Text in a table."""
    return text.replace("|", r"\|")


def section(module: Module) -> Iterator[str]:
    """A module's lines."""
    yield f"\n## {module.path.removeprefix('emu/').removesuffix('.py')}\n"
    yield f"{link(module.path)}: {module.about}\n"
    if module.differs:
        yield f"{DIFFERS} {module.differs}\n"
    yield "| kernel | ours | differs? |"
    yield "|---|---|---|"
    for row in module.rows:
        yield f"| {cell(row.kernel)} | {row.ours} | {cell(row.differs) or ('' if row.beside else 'no')} |"


def family_page(family: Family, model: dict[str, Module]) -> str:
    """A family's page."""
    lines = [f"# {family.title}\n", family.text]
    for path in family.modules:
        lines += section(model[path])
    return "\n".join(lines) + "\n"


def index_page(families: list[Family], model: dict[str, Module]) -> str:
    """The list of all pages."""
    lines = [
        "# Functions of the kernel\n",
        "Which of our functions is which of 5.10's, family by family, in the order of reading. The tables are made",
        "from the docstrings. *part of*: the kernel has it within that function; *beside*: it is ours, and works for",
        "or with that one; *a seam*: a room further up has the body, where the kernel's calls run back. *no* in the",
        "last column: it decides as the kernel's does. What a whole module leaves out stands above its table;",
        "all deviations together are in [differs.md](differs.md), what is not modelled at all in",
        "[limits.md](../limits.md).\n",
        "| family | modules | functions |",
        "|---|---|---|",
    ]
    for family in families:
        count = sum(len(model[path].rows) for path in family.modules)
        lines.append(f"| [{family.title}]({family.page}.md) | {len(family.modules)} | {count} |")
    return "\n".join(lines) + "\n"


def deviations(path: Path) -> Iterator[tuple[str, str]]:
    """Who differs in a source file, and how."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        if found := deviation(ast.get_docstring(node) or ""):
            yield "all of it" if isinstance(node, ast.Module) else f"`{node.name}`", found


def differs_page() -> str:
    """Everything that differs on purpose."""
    lines = ["# Differs from 5.10\n", "Every deviation that a docstring tells, file by file."]
    for path in sorted(p for room in ("emu", "shm") for p in (ROOT / room).rglob("*.py")):
        found = list(deviations(path))
        if found:
            name = path.relative_to(ROOT).as_posix()
            lines += [f"\n{link(name)}\n", *(f"- {who}: {what}" for who, what in found)]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """All generated pages: path below docs/, and text."""
    model, families = read_model(), read_families()
    made = {f"functions/{f.page}.md": family_page(f, model) for f in families}
    return {"functions/index.md": index_page(families, model), "functions/differs.md": differs_page(), **made}
