"""Behind each number of docs/guarantees.md stands a test of that number in this folder, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "guarantees.md"


def test_the_page_and_the_tests_name_the_same_numbers() -> None:
    """No promise and no limit is without a test, and no test is without one; nothing is left out in the count."""
    page = re.findall(r"^### ([GL]\d+)\b", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    names = [
        re.findall(r"^def test_([gl])(\d+)_", file.read_text(encoding="utf-8"), re.MULTILINE)
        for file in HERE.glob("*.py")
    ]
    tests = {f"{letter.upper()}{int(number)}" for found in names for letter, number in found}
    assert tests == set(page)
    for letter in "GL":
        numbers = [int(number[1:]) for number in page if number[0] == letter]
        assert numbers == list(range(1, len(numbers) + 1))
