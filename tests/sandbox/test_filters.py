"""`$filter`: what holds, what is refused, and what it says of the ID."""

from __future__ import annotations

from typing import Any

import pytest

from tribe_oauth.sandbox import ApiRules
from tribe_oauth.sandbox._filter import Condition, compile_filter
from tribe_oauth.sandbox._keys import END, key_of
from tribe_oauth.sandbox._literals import FilterError
from tribe_oauth.sandbox._model import ENTITY_SETS

GUID = "9f1900e6-2bd0-62ca-8291-702dd9c984f6"
PEOPLE = ENTITY_SETS["Relation_Person"]
ROW: dict[str, Any] = dict.fromkeys(PEOPLE.kinds) | {
    "ID": GUID,
    "Name": "O'Neill",
    "BirthDate": "2000-02-29",
    "CreationDate": "2024-01-01T00:00:00.12Z",
    "SortIndex": 40.0,
    "IsActive": True,
}
FAR = {"Address": {"City": "Leiden", "Country": {"Code": "NL"}}, "Language": None}


def follow(row: dict[str, Any], name: str) -> Any:
    return row[name] if name in row else FAR[name]


def compiled(text: str, **rules: Any) -> Condition:
    return compile_filter(text, PEOPLE, follow, ApiRules(**rules))


def holds(text: str, **rules: Any) -> bool:
    condition = compiled(text, **rules)
    key = key_of(GUID, ApiRules(**rules).id_order)
    return condition.low <= key < condition.high and bool(condition.test(ROW))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Name eq 'O''Neill'", True),
        ("Name eq 'o''neill'", False),
        ("Name ne 'O''Neill'", False),
        ("SortIndex gt 39.5 and SortIndex lt 41", True),
        ("SortIndex ge 4e1 and SortIndex le 40", True),
        ("Title eq null", True),
        ("null ne Title", False),
        ("Title gt 'a'", False),
        ("not (Title gt 'a')", True),
        ("IsActive", True),
        ("IsActive eq true and not (IsActive eq false)", True),
        ("not IsActive or SortIndex eq 40", True),
        ("IsClosed ne false", True),
        ("IsClosed", False),
        ("not IsClosed", False),
        ("not (IsClosed and IsActive)", False),
        ("not (IsClosed and IsActive eq false)", True),
        ("not (IsClosed or IsActive eq false)", False),
        ("IsClosed or IsActive", True),
        ("contains(Name,'nei') and startswith(Name,'O') and endswith(Name,'LL')", True),
        ("contains(Title,'x')", False),
        ("not contains(Title,'x')", False),
        ("not contains(Name,null)", False),
        ("ID eq 9F1900E6-2bd0-62ca-8291-702dd9c984f6", True),
        (f"ID ne {GUID}", False),
        (f"ID gt {GUID}", False),
        (f"ID ge {GUID} and ID le {GUID}", True),
        (f"(ID ge {GUID}) or IsClosed", True),
        (f"{GUID} le ID", True),
        ("BirthDate lt 2000-03-01", True),
        ("CreationDate gt 2024-01-01T00:00:00Z", True),
        ("CreationDate eq 2024-01-01T01:00:00.1200000%2B01:00", True),
        ("CreationDate ge 2023-12-31T23:00:00.1200001-01:00", False),
        ("LastMutationDate ge 2024-01-01T00:00:00Z", False),
        ("Address/City eq 'Leiden' and Address/Country/Code ne 'BE'", True),
        ("Language/Code eq null", True),
        ("  SortIndex eq 40  ", True),
    ],
)
def test_filters(text: str, expected: bool) -> None:
    """As much of `$filter` as Tribe is known to answer; what is null is neither true nor false."""
    assert holds(text.replace("%2B", "+")) is expected


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Nothing eq 1", "no property"),
        ("Nothing/City eq 1", "no property"),
        ("Notes/Content eq 'x'", "no property"),
        ("Address/Nothing eq 1", "no property"),
        ("Name in ('a')", "'in' is not supported"),
        ("Name has 'a'", "'has' is not supported"),
        ("Name like 'a'", "'like' is not supported"),
        ("Name eq", "breaks off"),
        ("(Name eq 'a'", "breaks off"),
        ("Name eq 'a')", "unexpected"),
        ("Name eq )", "unexpected"),
        ("contains(Name 'a')", "expected ,"),
        ("contains(SortIndex,'a')", "not compatible"),
        ("Name eq ;", "position 8"),
        ("Name+eq+'a'", "position 5"),
        ("Name", "not compatible"),
        (f"ID eq '{GUID}'", "not compatible"),
        ("SortIndex eq '40'", "not compatible"),
        ("SortIndex eq true", "not compatible"),
        ("Name eq 1", "not compatible"),
        ("CreationDate eq 2024-01-01", "not compatible"),
        ("CreationDate eq 2024-01-01T00:00:00", "has no offset"),
        ("CreationDate eq 2024-02-30T00:00:00Z", "is no time"),
        ("CreationDate eq 0001-01-01T00:00:00+01:00", "is no time"),
    ],
)
def test_filters_that_cannot_be_read(text: str, wrong: str) -> None:
    """The reason is said."""
    with pytest.raises(FilterError, match=wrong.replace("(", r"\(")):
        compiled(text)


def test_rules() -> None:
    """The status of `in`; the case of `eq`; IDs that do not compare, and in another order."""
    with pytest.raises(FilterError) as error:
        compiled("Name in ('a')", in_operator=501)
    assert error.value.status == 501
    assert holds("Name eq 'o''NEILL' and Title eq null", eq_case="insensitive")
    with pytest.raises(FilterError, match=r"Edm\.Guid"):
        compiled(f"ID gt {GUID}", id_range=False)
    assert compiled(f"ID eq {GUID}", id_range=False).text == ""
    for order in ("text", "signed", "mixed"):
        assert holds(f"ID gt 0f1900e6-2bd0-62ca-8291-000000000000 or ID lt {'f' * 8}{GUID[8:]}", id_order=order)
        assert holds(f"ID ge {GUID}", id_order=order)


def test_what_it_says_of_the_id() -> None:
    """At its top, that is a range, and the rest is a text by which its outcome is kept."""
    low, high = key_of("0" * 8 + GUID[8:], "text"), key_of("f" * 8 + GUID[8:], "text")
    bounds = f"ID gt {'0' * 8}{GUID[8:]} and ID lt {'f' * 8}{GUID[8:]}"
    alone, with_more = compiled(bounds), compiled(f"(Title eq null) and {bounds} and IsActive")
    assert (alone.low, alone.high, alone.text) == (low + 1, high, "")
    assert (with_more.low, with_more.high) == (low + 1, high)
    assert with_more.text == "( Title eq null ) and IsActive"
    inside = compiled(f"({bounds})")
    assert (inside.low, inside.high) == (0, END)
    assert not inside.is_far
    assert compiled("Address/City eq 'x'").is_far
