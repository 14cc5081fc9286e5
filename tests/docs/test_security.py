"""The list of promises in ``docs/security.md``, and the tests that prove them."""

from __future__ import annotations

from . import security

PAGE = security.PAGE.read_text(encoding="utf-8")


def test_each_promise_has_a_test() -> None:
    """A line without a test is a hope; a test that cites a line that is not there proves nothing."""
    found, promised = security.citations(), security.lines(PAGE)
    assert len(promised) == len(set(promised)) > 40
    assert [number for number in promised if number not in found] == []
    assert sorted(set(found) - set(promised)) == []


def test_the_table_is_up_to_date() -> None:
    """As ``python -m tests.docs.security`` writes it."""
    assert security.written(PAGE) == PAGE
