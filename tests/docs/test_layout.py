"""How the package is built: what its modules may know of each other, and the law of shutdown that binds them.

That imports run one way is checked by import-linter, which the environment `lint` of tox runs.
"""

from __future__ import annotations

import ast
import builtins
import dis
import importlib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import threadhooks
from threadhooks import _sentinel, _values

PACKAGE = Path(threadhooks.__file__).parent
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.glob("*.py"))}
SOURCES = {name: ast.parse(text) for name, text in TEXTS.items()}


@pytest.mark.parametrize("name", SOURCES)
def test_no_module_takes_a_private_name_of_another(name: str) -> None:
    """What a module imports from another one of the package does not begin with an underscore."""
    taken = [
        alias.name
        for node in ast.walk(SOURCES[name])
        if isinstance(node, ast.ImportFrom) and node.level and node.module
        for alias in node.names
    ]
    assert [private for private in taken if private.startswith("_")] == []


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_fits_in_the_head(name: str) -> None:
    """No module has 350 lines or more."""
    assert len(TEXTS[name].splitlines()) < 350


def test_the_only_thread_local() -> None:
    """The package has one `threading.local`: one class, in `_sentinel`, of which one instance is made."""
    for name, tree in SOURCES.items():
        if name == "_demo":  # it shows what others do
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in ("threading", "_thread", "_threading_local"):
                assert not {"local", "_local"} & {alias.name for alias in node.names}, name
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("threading.local", "_thread._local", "_threading_local.local"), name
    classes, made = [], []
    for tree in SOURCES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and "threading.local" in map(ast.unparse, node.bases):
                classes.append(node.name)
    for node in ast.walk(SOURCES["_sentinel"]):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in classes:
            made.append(ast.unparse(node))
    assert len(classes) == len(made) == 1


LAW = "This breaks the law of shutdown, which threadhooks/_sentinel.py states, and why. "


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"__init__", "__main__"}))
def test_no_module_holds_another_one(name: str) -> None:
    """The law of shutdown, 1: no module of the package has another one as a global."""
    module = importlib.import_module(f"threadhooks.{name}")
    held = [
        key
        for key, value in vars(module).items()
        if isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] == "threadhooks"
    ]
    assert held == [], LAW + "Import the names that you need from the module, not the module."


def destructors() -> Iterator[Any]:
    """What the interpreter may call when it is ending: every `__del__`, and the callbacks of weak references."""
    for name in SOURCES:
        if name == "__main__":
            continue
        for cls in vars(importlib.import_module(f"threadhooks.{name}")).values():
            if isinstance(cls, type) and cls.__module__.partition(".")[0] == "threadhooks" and "__del__" in vars(cls):
                yield vars(cls)["__del__"]
    yield vars(_values.Owner)["died"]


@pytest.mark.parametrize("destructor", set(destructors()), ids=lambda function: function.__qualname__)
def test_a_destructor_uses_no_global_before_it_knows(destructor: Any) -> None:
    """The law of shutdown, 2: up to the question whether the interpreter is ending, a destructor has all at hand."""
    asked = False
    for instruction in dis.get_instructions(destructor):
        if instruction.argval == "is_finalizing":
            asked = True
        if asked and instruction.opname.startswith(("RETURN", "POP_JUMP")):
            break
        if instruction.opname == "LOAD_GLOBAL":
            assert hasattr(builtins, instruction.argval), (
                LAW
                + f"{destructor.__qualname__} uses the global {instruction.argval!r}: bind it as a default argument."
            )


def test_the_law_has_destructors_to_bind() -> None:
    """The two tests above look at something: the sentinel's end is among what they see."""
    assert vars(_sentinel._Sentinel)["__del__"] in set(destructors())
