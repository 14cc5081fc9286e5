"""The tables of ``docs/security.md``: which tests prove which line. ``python -m tests.docs.security`` writes them."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "security.md"
_ROW: Final = re.compile(r"^\| ([SF]\d+) \| (.*?) \| (.*) \|$", re.MULTILINE)
_CITATION: Final = re.compile(r"\b[SF]\d{1,2}\b")
_RANGE: Final = re.compile(r"\b([SF])(\d{1,2}) to \1(\d{1,2})\b")


def lines(page: str) -> list[str]:
    """The numbers of the page's lines, in their order."""
    return [row[1] for row in _ROW.finditer(page)]


def citations() -> dict[str, Counter[str]]:
    """For each line the files of tests that name it in a docstring, and how often."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                for number in _cited(ast.get_docstring(node) or ""):
                    found[number][path.relative_to(ROOT).as_posix()] += 1
    return found


def _cited(text: str) -> set[str]:
    spans = {f"{kind}{n}" for kind, first, last in _RANGE.findall(text) for n in range(int(first), int(last) + 1)}
    return spans | set(_CITATION.findall(text))


def written(page: str) -> str:
    """The page, with the tests of each line in its last column."""
    found = citations()

    def row(match: re.Match[str]) -> str:
        tests = ", ".join(_link(path, times) for path, times in sorted(found[match[1]].items()))
        return f"| {match[1]} | {match[2]} | {tests} |"

    return _ROW.sub(row, page)


def _link(path: str, times: int) -> str:
    name = path.removeprefix("tests/").removesuffix(".py")
    return f"[{name}](../{path})" + (f" ({times})" if times > 1 else "")


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
