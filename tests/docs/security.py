"""The tables of ``docs/security.md``: which tests prove which line. ``python -m tests.docs.security`` writes them."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "security.md"
_ROW: Final = re.compile(r"^\| ([SF]\d+) \| (.*?) \| (.*) \|$", re.MULTILINE)
_CITATION: Final = re.compile(r"\b[SF]\d{1,2}\b")
_RANGE: Final = re.compile(r"\b([SF])(\d{1,2}) to \1(\d{1,2})\b")


def lines(page: str) -> list[str]:
    """The numbers of the page's lines, as in S17, in their order."""
    return [row[1] for row in _ROW.finditer(page)]


def citations() -> dict[str, list[str]]:
    """For each line the tests whose docstring, or whose module's or class's, names it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        for name, text in _docstrings(ast.parse(path.read_text(encoding="utf-8"))):
            for number in _cited(text):
                found[number].add(f"`{where}`" if name is None else f"`{where}::{name}`")
    return {number: sorted(tests) for number, tests in found.items()}


def _docstrings(tree: ast.Module) -> Iterator[tuple[str | None, str]]:
    if text := ast.get_docstring(tree):
        yield None, text
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (
            text := ast.get_docstring(node)
        ):
            yield node.name, text


def _cited(text: str) -> set[str]:
    spans = {f"{kind}{n}" for kind, first, last in _RANGE.findall(text) for n in range(int(first), int(last) + 1)}
    return spans | set(_CITATION.findall(text))


def written(page: str) -> str:
    """The page, with the tests of each line in its last column."""
    found = citations()

    def row(match: re.Match[str]) -> str:
        return f"| {match[1]} | {match[2]} | {'<br>'.join(found.get(match[1], []))} |"

    return _ROW.sub(row, page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
