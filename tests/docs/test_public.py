"""What is public is what is documented, and the package is laid out as README and the documentation say."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.resources
import inspect
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

import threadhooks

ROOT = Path(__file__).parents[2]
PACKAGE = Path(threadhooks.__file__).parent
SOURCES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.glob("*.py"))}
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")

DOCUMENTED = re.findall(r"^\.\. (?:auto\w+|data):: ([\w.]+)", REFERENCE, re.MULTILINE)

WITH_ALL = [
    module.__name__
    for module in (importlib.import_module(f"threadhooks.{name}") for name in SOURCES if name != "__init__")
    if hasattr(module, "__all__")
]


def public_objects() -> Iterator[tuple[str, Any]]:
    """What is in `__all__` of a module, and the public attributes of classes there, and of the signals' class."""
    for name in ["threadhooks", *WITH_ALL]:
        module = importlib.import_module(name)
        yield name, module
        for exported in module.__all__:
            obj = getattr(module, exported)
            yield f"{name}.{exported}", obj
            owner = obj if inspect.isclass(obj) else type(obj)
            if owner.__module__.partition(".")[0] == "threadhooks":
                for attribute, value in vars(owner).items():
                    if not attribute.startswith("_") and attribute not in getattr(owner, "_fields", ()):
                        yield f"{name}.{exported}.{attribute}", value


PUBLIC = dict(public_objects())


# Names


def test_all_is_what_is_documented() -> None:
    """`threadhooks.__all__` has the names that the reference describes, and no other."""
    documented = {name.removeprefix("threadhooks.") for name in DOCUMENTED if name.count(".") < 2}
    assert documented == set(threadhooks.__all__)


@pytest.mark.parametrize("name", WITH_ALL)
def test_all_of_a_module_is_documented(name: str) -> None:
    """What is public in a module is in the reference, as the module's or as the package's."""
    module = importlib.import_module(name)
    for exported in module.__all__:
        if f"{name}.{exported}" not in DOCUMENTED:
            assert f"threadhooks.{exported}" in DOCUMENTED
            assert getattr(threadhooks, exported) is getattr(module, exported)


@pytest.mark.parametrize("name", ["threadhooks", *WITH_ALL])
def test_all_is_sorted_and_importable(name: str) -> None:
    """`__all__` is a sorted tuple without doubles, and ``import *`` gives just these names."""
    exported = importlib.import_module(name).__all__
    assert exported == tuple(sorted(set(exported)))
    namespace: dict[str, Any] = {}
    exec(f"from {name} import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(exported)


def test_what_the_package_has_is_public_or_private() -> None:
    """Besides `__all__`, the package has its modules and names that begin with an underscore."""
    # pytest adds names with an "@" to the modules of a distribution that has a plugin for it, as it imports them.
    names = {name for name in dir(threadhooks) if not name.startswith(("_", "@"))}
    assert names - set(threadhooks.__all__) <= {name for name in SOURCES if not name.startswith("_")}


@pytest.mark.parametrize("name", WITH_ALL)
def test_nothing_public_leaks_from_a_module(name: str) -> None:
    """What a module with an `__all__` defines is in it, or begins with an underscore, or is a type variable."""
    module = importlib.import_module(name)
    defined: set[str] = set()
    for node in SOURCES[name.rpartition(".")[2]].body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined.update(target.id for target in targets if isinstance(target, ast.Name))
    public = {name for name in defined if not name.startswith("_")}
    assert set(module.__all__) <= public
    leaked = {name: getattr(module, name) for name in public - set(module.__all__)}
    assert [name for name, obj in leaked.items() if not isinstance(obj, (TypeVar, ParamSpec))] == []


# Documentation


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_has_a_docstring(name: str) -> None:
    """Every public module, class, function, method, property and signal has a docstring of its own."""
    obj = PUBLIC[name]
    docstring = vars(obj).get("__doc__") if inspect.isclass(obj) else obj.__doc__
    assert docstring
    assert inspect.isclass(obj) or docstring != type(obj).__doc__


def test_every_module_has_a_docstring() -> None:
    """Private modules, too, open with what they are for."""
    assert [name for name, tree in SOURCES.items() if not ast.get_docstring(tree)] == []


# Layout


def test_the_only_dependency(program: Callable[..., Any]) -> None:
    """To import the package, in a fresh interpreter, imports nothing from outside the standard library but blinker."""
    out, err, code = program(
        """
        import os, sys, sysconfig
        before = set(sys.modules)
        import threadhooks, threadhooks.__main__, threadhooks._demo, threadhooks._runner
        new = {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
        # Distributors may add a module of their own to the standard library.
        print([name for name in sorted(new) if not os.path.exists(f"{sysconfig.get_path('stdlib')}/{name}.py")])
        """
    )
    assert (out, err, code) == ("['blinker', 'threadhooks']\n", "", 0)


def test_the_declared_dependency() -> None:
    """The distribution requires blinker, and nothing else that is not an extra."""
    required = importlib.metadata.requires("threadhooks") or []
    (dependency,) = (requirement for requirement in required if "extra ==" not in requirement)
    assert re.match(r"blinker\b", dependency)


def test_the_types_are_installed() -> None:
    """`py.typed` is in the installed distribution."""
    assert importlib.resources.files("threadhooks").joinpath("py.typed").is_file()
    files = {str(file) for file in importlib.metadata.files("threadhooks") or []}
    if "threadhooks/__init__.py" in files:  # it is not in an editable installation
        assert "threadhooks/py.typed" in files


def test_the_top_level_of_the_repository() -> None:
    """It holds the package, its tests, its documentation, three files and dotfiles."""
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("there is no git")
    if listed.returncode or not listed.stdout:
        pytest.skip("this is no checkout")
    top = {name.partition("/")[0] for name in listed.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} == {
        "threadhooks",
        "tests",
        "docs",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    }


def test_the_version_is_that_of_what_is_installed(program: Callable[..., Any]) -> None:
    """`threadhooks.__version__` is read from the metadata when it is asked for, not when the package is imported."""
    version = importlib.metadata.version("threadhooks")
    assert program(
        """
        import sys, threadhooks
        print("importlib.metadata" in sys.modules, threadhooks.__version__)
        """
    ) == (f"False {version}\n", "", 0)
