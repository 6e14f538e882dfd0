"""Every resource that an example shows is closed if its thread crashes, too, whether `install()` was called or not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
PROGRAMS = [*sorted(ROOT.glob("tests/integration/examples/**/*.py")), *sorted(ROOT.glob("threadhooks/**/*.py"))]


def sources() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        yield page.name, "\n".join(blocks)
    for program in PROGRAMS:
        yield program.name, program.read_text(encoding="utf-8")


RESOURCES = [
    (name, function)
    for name, source in sources()
    for function in ast.walk(ast.parse(source))
    if isinstance(function, ast.FunctionDef) and any("per_thread" in ast.dump(by) for by in function.decorator_list)
]


def bare_yields(node: ast.AST) -> Iterator[ast.AST]:
    """Those that neither a `finally` nor a `with` surrounds."""
    if isinstance(node, ast.With) or (isinstance(node, ast.Try) and node.finalbody):
        return
    if isinstance(node, ast.Yield):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from bare_yields(child)


@pytest.mark.parametrize(
    "function", [pytest.param(function, id=f"{name}:{function.name}") for name, function in RESOURCES]
)
def test_what_follows_the_yield_is_never_skipped(function: ast.FunctionDef) -> None:
    """The `yield` of a resource stands in a `try … finally` or a `with`, and nothing is committed after it."""
    assert list(bare_yields(function)) == []
    assert "commit" not in ast.dump(function).lower()


def test_examples_are_found() -> None:
    """The check above looks at something: at pages as well as at programs."""
    names = {name for name, _ in RESOURCES}
    pages = {"README.md", "index.md", "getting-started.md", "connections.md", "native-runtimes.md"}
    assert pages | {"web_server.py", "database.py"} <= names
