"""The rules of the API: a switch for each of which it is not known what Tribe does. Any room may ask them.

The docs' page "What is known of Tribe" says of each how sure it is. The first value named is the default.
"""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from attrs import frozen

NOTHING: Final = "none"
"""How None is written where a rule comes as text."""


@frozen(kw_only=True)
class ApiRules:
    """What the emulated API does. Times are in seconds.

    Raises ValueError for a value that a rule does not have, and says which it has.
    """

    # Reading

    context: Literal["type", "standard", "absent"] = "type"
    """The form of `@odata.context`: of the type, as recorded; as OData's standard has it, with the selected names."""
    odata_id: bool = True
    """An object that was selected without its `ID` has an `@odata.id` as well."""
    paging: Literal["none", "nextLink"] = "none"
    """Whether a page that is not the last has an `@odata.nextLink`. Then the order is always by ID."""
    big_top: Literal["cut", "refused", "honoured"] = "cut"
    """A `$top` of more than a page: cut without a word, 400, or as many rows."""
    default_page: int | None = 100
    """Rows without a `$top`; None: all."""
    unordered: Literal["shuffled", "stable"] = "shuffled"
    """Without `$orderby`, an order that differs from call to call; or by ID."""
    in_operator: Literal[400, 501] = 400
    """How `in` and `has` are refused."""
    eq_case: Literal["sensitive", "insensitive"] = "sensitive"
    """Whether `eq` and `ne` regard the case of text."""
    id_range: bool = True
    """Whether `ID gt`, `ge`, `lt` and `le` are understood; else 400."""
    id_order: Literal["text", "signed", "mixed"] = "text"
    """The order of IDs: as they are written; as Java compares them; as Microsoft's SQL Server does."""
    errors: Literal["olingo", "spring", "html", "empty"] = "olingo"
    """The form of an error's body."""
    expand_cut: int | None = None
    """Rows of an expanded collection at most; nothing says that it is cut."""
    fraction: Literal["none", "milliseconds", "ticks"] = "none"
    """Digits behind the seconds of a time: none; up to three, or up to seven, without zeros at the end."""
    doubles: Literal["34.0", "34"] = "34.0"
    """How a whole number is written in a field of floating point."""
    base_rows: Literal["base", "all"] = "base"
    """The fields of a row that is read from a base set: those of the base type, or all of its own type."""
    missing_set: Literal[404, 400] = 404
    """The status where there is no such entity set."""
    identities: int = 1
    """Rows of `Relationship_Organization_Identity`."""

    # The limit

    calls: int | None = 1_000
    """Calls in any `seconds`, for each application and organization; None: no limit."""
    seconds: float = 60.0
    retry_after: Literal["absent", "seconds", "date"] = "absent"
    """The form of a `Retry-After` with the 429."""
    refused_count: bool = False
    """Whether calls that were answered with 429 count as well."""
    block: float | None = None
    """For how long who goes on after `heeded` answers of 429 in a row is blocked with 403; None: never."""
    heeded: int = 20

    # Tokens and consent

    unauthorized: Literal["empty", "json", "html"] = "empty"
    """The body of a 401."""
    query_token: Literal["accepted", 401] = "accepted"  # noqa: S105 (no password)
    """An access token in the query. It is in the ledger either way."""
    organization_id: Literal["accepted", 500] = "accepted"
    """What an authorization URL with it comes to."""
    code_challenge: Literal["honoured", "ignored", "refused"] = "honoured"
    exchange_redirect_uri: Literal["needed", "optional"] = "needed"
    refresh_redirect_uri: Literal["profile", "optional", "needed"] = "profile"
    """Whether a refresh after a code needs the redirect URI. The profile `strict` says so, the others do not."""
    callback: Literal["/?code=", "?code="] = "/?code="
    token_scope: bool = True
    """Whether a token answer has a `scope`."""
    offline: Literal["accepted", "invalid_scope", "invalid_grant"] = "accepted"
    """What client credentials get that ask for `offline`."""

    # Writing

    unknown_id: Literal[404, "creates"] = 404
    """A POST with an `ID` that does not exist."""
    unknown_link: Literal[400, 404] = 400
    """A link to what does not exist."""
    created: Literal[201, 200] = 201
    updated: Literal[200, 204] = 200
    patch: Literal["works", 405] = "works"
    lag: float = 0.0
    """How long reads do not see what was written."""
    max_body: int = 10_485_760
    """Bytes of a request's body; more are answered with 413."""

    # Webhooks

    webhook_header: str = "X-Tribe-Signature"
    webhook_payload: Literal["typed", "wrapped"] = "typed"
    """Where the kind of a mutation stands: beside its fields, or around them."""
    webhook_twice: float = 0.0
    """The probability that a message is delivered a second time."""
    webhook_lost: float = 0.0
    """The probability that a message is never delivered."""
    webhook_late: float = 0.0
    """How long the sender waits before each message at most; how long it does, chance decides."""
    webhook_order: Literal["kept", "shuffled"] = "kept"

    def __attrs_post_init__(self) -> None:
        for name, hint in _HINTS.items():
            if not any(_fits(getattr(self, name), each) for each in _choices(hint)):
                raise ValueError(f"no {name} {getattr(self, name)!r}: choose {_named(hint)}")

    @classmethod
    def from_words(cls, words: list[str]) -> ApiRules:
        """Rules from words such as ``paging=nextLink`` or ``calls=none``. Raises ValueError."""
        return cls(**dict(map(_read, words)))


_HINTS: Final = get_type_hints(ApiRules)


def _choices(hint: Any) -> tuple[Any, ...]:
    """The types and the values that a rule may have."""
    if get_origin(hint) in {Union, UnionType}:
        return tuple(choice for each in get_args(hint) for choice in _choices(each))
    return get_args(hint) if get_origin(hint) is Literal else (hint,)


def _fits(value: Any, choice: Any) -> bool:
    if not isinstance(choice, type):
        return type(value) is type(choice) and value == choice
    kinds = (int, float) if choice is float else (choice,)
    return type(value) in kinds and (choice not in {int, float} or value >= 0)


def _named(hint: Any) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", NoneType: NOTHING}
    return " or ".join(words.get(each, str(each)) for each in _choices(hint))


def _read(word: str) -> tuple[str, Any]:
    """The name and the value of a rule that is written as a word."""
    name, _, text = word.partition("=")
    if name not in _HINTS:
        raise ValueError(f"no rule {name!r}: choose one of {', '.join(_HINTS)}")
    for choice in _choices(_HINTS[name]):
        if (value := _value(text, choice)) is not None or (choice is NoneType and text == NOTHING):
            return name, value
    raise ValueError(f"no {name} {text!r}: choose {_named(_HINTS[name])}")


def _value(text: str, choice: Any) -> Any:
    """The text as this choice; None where it is not one."""
    if not isinstance(choice, type):
        return choice if str(choice) == text else None
    if choice is bool:
        return {"true": True, "false": False}.get(text)
    try:
        return choice(text) if choice in {int, float, str} else None
    except ValueError:
        return None
