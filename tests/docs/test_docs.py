"""What README and the documentation show is true: their programs run and print what they say; their links lead on."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", *sorted(ROOT.glob(".github/*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
PAGES = {str(page.relative_to(ROOT)): page for page in FILES}
TEXTS = {name: page.read_text(encoding="utf-8") for name, page in PAGES.items()}

# A block, and where the block after it is headed so, what it prints
EXAMPLE = re.compile(r"^```python\n(.*?)^```$(?:\n+Output:\n+```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMANDS = (
    "python -m pip install . && python -m threadhooks demo",
    "python -m pip install -e '.[test]' && python -m pytest",
)


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if EXAMPLE.search(text)])
def test_examples(name: str, program: Callable[..., Any]) -> None:
    """The blocks of a page, run in order as one program, print what the page says, and nothing on standard error."""
    source, expected = [], ""
    for code, output in EXAMPLE.findall(TEXTS[name]):
        source.append(code)
        if output:
            source.append(f"if __name__ == '__main__': print({MARK!r})\n")  # not in a child that imports it
            expected += f"{output}{MARK}\n"
    result = program("".join(source))
    if re.match(r".*^ModuleNotFoundError: No module named '(?!threadhooks)", result.err, re.MULTILINE | re.DOTALL):
        pytest.skip(result.err.splitlines()[-1])
    assert (result.err, result.code) == ("", 0)
    if expected:
        assert result.out.rpartition(f"{MARK}\n")[0] + f"{MARK}\n" == expected


MARK = "-- the end of an output --"


@pytest.mark.parametrize("name", PAGES)
def test_links(name: str) -> None:
    """A link to another file leads to one; where it names a heading, that is there."""
    for target in LINK.findall(FENCE.sub("", TEXTS[name])):
        if re.match(r"https?:|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (PAGES[name].parent / file).resolve() if file else PAGES[name]
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in [slug(heading) for heading in headings], target


@pytest.mark.parametrize("name", PAGES)
def test_included_files(name: str) -> None:
    """A page that shows a file of the repository names one that is there."""
    for target in re.findall(r"^`{3,}\{literalinclude\} (\S+)$", TEXTS[name], re.MULTILINE):
        assert (PAGES[name].parent / target).is_file(), target


def test_commands() -> None:
    """README gives the two commands, each alone on its line: to run the main job, and the tests."""
    lines = TEXTS["README.md"].splitlines()
    assert [command for command in COMMANDS if command in lines] == list(COMMANDS)


def test_an_output_is_always_headed() -> None:
    """A block of text right behind a program is its output, and says so: none escapes the comparison."""
    for name, text in TEXTS.items():
        assert not re.search(r"^```python\n(?:(?!^```).*\n)*```\n+```text$", text, re.MULTILINE), name


def test_readme_stands_alone() -> None:
    """What a package index shows of README leads to no file that isn't there, and has its picture in text."""
    text = metadata("threadhooks")["Description"]
    outside_of_code = FENCE.sub("", text)
    assert {target for target in LINK.findall(outside_of_code) if not target.startswith("https://")} == set()
    assert re.findall(r"<(?:img|source|picture)|!\[", outside_of_code) == []
    assert (ROOT / "docs" / "_static" / "life.txt").read_text(encoding="utf-8") in text


def test_the_sidebar_groups_the_recipes_as_their_page_does() -> None:
    """The recipes stand under the same captions in the sidebar as under the headings of their page, in one order."""
    parts = re.findall(r"^## (.*)$((?:\n(?!## ).*)*)", TEXTS["docs/how-to/index.md"], re.MULTILINE)
    page = {title: re.findall(r"^- \[.*?\]\(([\w-]+)\.md\)", text, re.MULTILINE) for title, text in parts}
    tree = re.compile(r'^```\{toctree\}\n:caption: "How-to: (.*)"\n((?:(?!```).*\n)*)```$', re.MULTILINE)
    found = {
        title: re.findall(r"^how-to/([\w-]+)$", text, re.MULTILINE)
        for title, text in tree.findall(TEXTS["docs/index.md"])
    }
    sidebar = {title.capitalize(): [name for name in names if name != "index"] for title, names in found.items()}
    assert list(sidebar.items()) == list(page.items())


def test_no_package_index_is_linked() -> None:
    """Other packages are linked by their documentation, or named."""
    assert [name for name, text in TEXTS.items() if re.search(r"https?://(?:[\w.]*\.)?pypi\.", text)] == []
