"""Retry-After, in all its forms (F3)."""

from __future__ import annotations

import random

import pytest

from tribe_oauth._retry_after import LONGEST, read_retry_after

NOW = "Tue, 24 Nov 2026 08:00:00 GMT"


@pytest.mark.parametrize(
    ("retry_after", "date", "seconds"),
    [
        (None, None, None),
        ("5", None, 5.0),
        (" 5 ", None, 5.0),
        ("0", None, 0.0),
        ("99999999", None, LONGEST),
        ("9" * 5000, None, LONGEST),
        ("-5", None, None),
        ("5.5", None, None),
        ("soon", None, None),
        ("", None, None),
        ("²", None, None),
        ("Tue, 24 Nov 2026 08:05:00 GMT", NOW, 300.0),
        ("Tuesday, 24-Nov-26 08:05:00 GMT", NOW, 300.0),
        ("Tue Nov 24 08:05:00 2026", NOW, 300.0),
        ("Tue, 24 Nov 2026 08:05:00 GMT", "Tue Nov 24 08:00:00 2026", 300.0),
        ("Tue, 24 Nov 2026 09:05:00 +0100", NOW, 300.0),
        ("Tue, 24 Nov 2026 07:00:00 GMT", NOW, 0.0),
        ("Tue, 24 Nov 2036 07:00:00 GMT", NOW, LONGEST),
        ("Tue, 24 Nov 2026 08:05:00 GMT", None, None),
        ("Tue, 24 Nov 2026 08:05:00 GMT", "yesterday", None),
        ("Tue, 31 Feb 2026 08:05:00 GMT", NOW, None),
        ("Tue, 24 Nov 2026 08:05:00 +99999999999999999999", NOW, None),
        ("Tue, 24 Nov 2026 08:05:00 GMT", "Tue, 24 Nov 2026 08:05:00 +99999999999999999999", None),
    ],
)
def test_retry_after(retry_after: str | None, date: str | None, seconds: float | None) -> None:
    """RFC 9110 §10.2.3, §5.6.7: seconds and the three forms of a date, bounded; no clock but the server's."""
    headers = {"Retry-After": retry_after, "Date": date}
    assert read_retry_after({name: value for name, value in headers.items() if value is not None}) == seconds


def test_nothing_surprises() -> None:
    """An answer that came must not be lost by what stands beside it: whatever the header is, no exception."""
    chance = random.Random(3)
    forms = [NOW, "Tuesday, 24-Nov-26 08:05:00 GMT", "Tue Nov 24 08:05:00 2026", "Tue, 24 Nov 2026 08:05:00 +0000"]
    for _ in range(20_000):
        text = list(chance.choice(forms))
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(text))
            text[at : at + chance.randint(0, 2)] = chance.choice(' ,:-+0123456789GMTx()"\\\0²٣;.') * chance.randint(
                1, 9
            )
        for retry_after, date in (("".join(text), NOW), (NOW, "".join(text))):
            seconds = read_retry_after({"Retry-After": retry_after, "Date": date})
            assert seconds is None or 0 <= seconds <= LONGEST
