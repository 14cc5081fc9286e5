"""The server's own words: made fit to be shown, and read for what they are about. Pure functions.

A server says what is wrong in this case behind a sentence that it has for every such error, or in a member of its own
(``error_hint``). It may also repeat what it was sent, or say things that no log should have. So what is kept is
printable, short, without the standard sentences, and without secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

from tribe_oauth._printable import printable
from tribe_oauth._redaction import MASK, without
from tribe_oauth.errors import CLIENT_REFUSED, GRANT_TYPE, OTHER_CLIENT, PKCE, REDIRECT_URI, SCOPE

MAX_WORDS: Final = 600
"""Characters of the server's own words that are kept."""
MAX_CODE: Final = 100
"""Characters of an error code that are kept: the longest known one has 25."""
_MAX_READ: Final = 4_000
"""Characters that are read: several times what any version says."""

# Ory Hydra puts these before what it has to say, or says no more. The last ones are its hints where it has none.
_STANDARD: Final = (
    r"(?:The provided authorization grant \(e\.g\., .*?was issued to another client"
    r"|The request is missing a required parameter, includes an invalid parameter value, .*?malformed"
    r"|Client authentication failed \(e\.g\., .*?method\)"
    r"|Token is inactive because it is malformed, expired or otherwise invalid"
    r"|The requested scope is invalid, unknown, or malformed"
    r"|The client is not authorized to request a token using this method"
    r"|The token was not granted the requested scope"
    r"|The resource owner or authorization server denied the request"
    r"|The authorization server does not support obtaining a token using this method"
    r"|The authorization server encountered an unexpected condition that prevented it from fulfilling the request"
    r"|Make sure that the various parameters are correct, be aware of case sensitivity and trim your parameters"
    r"|Make sure that the client you are using has exactly whitelisted the redirect_uri you specified"
    r"|Make sure that client id and secret are correctly specified and that the client exists"
    r"|Token validation failed)\.?(?:\s+|$)"
)
# Tokens as this server makes them, tokens in three parts (RFC 7519), and whatever else is too long to be a word.
_SECRETS: Final = r"(?a)\bory_[a-z]{2}_[\w.~+/=-]+|[A-Za-z0-9_-]{30,}(?:\.[A-Za-z0-9_-]{20,})+|[A-Za-z0-9_-]{40,}"

# What a refusal is about, by its code; else by the server's words, in the sentences of all its versions and in others'.
_MAY_BE_ABOUT_ANYTHING: Final = frozenset({"invalid_grant", "invalid_request"})
_BY_CODE: Final[Mapping[str, str]] = {
    "invalid_client": CLIENT_REFUSED,
    "invalid_scope": SCOPE,
    "scope_not_granted": SCOPE,
    "unauthorized_client": GRANT_TYPE,
    "unsupported_grant_type": GRANT_TYPE,
}
_BY_WORDS: Final[Mapping[str, str]] = {
    REDIRECT_URI: r"redirect_uri[^.]*(?:not match|mismatch)",
    PKCE: r"\bPKCE\b|code[_ ](?:verifier|challenge)",
    GRANT_TYPE: r"not allowed to use (?:authorization )?grant",
    SCOPE: r"not allowed to request scope|was not granted scope",
    OTHER_CLIENT: r"client id[^.]*(?:not match|mismatch)",
}


def words_of(members: Mapping[str, object], secrets: Iterable[str]) -> str:
    """What an error says beyond the sentence that stands in every such error; empty: nothing.

    `members`: of the JSON of a refusal, or of a callback's query. In place of each of the secrets there is a mask.
    """
    texts = (members.get(name) for name in ("error_description", "error_hint"))
    said = _masked(" ".join(text for text in texts if isinstance(text, str)), secrets)
    return shown(re.sub(_STANDARD, "", said[:_MAX_READ]).strip(" "), secrets)


def shown(text: str, secrets: Iterable[str], limit: int = MAX_WORDS) -> str:
    """Text of a server, printable and short, without the secrets that it was sent, however they are written there."""
    return printable(_masked(text, secrets), limit)


def _masked(text: str, secrets: Iterable[str]) -> str:
    return re.sub(
        _SECRETS,
        MASK,
        without(text, sorted({form for secret in secrets for form in _forms(secret)}, key=_longest)),
    )


def _longest(text: str) -> int:
    return -len(text)


def _forms(secret: str) -> tuple[str, ...]:
    """The ways in which a server may write what it was sent."""
    import html  # its table of all entities is large, and few refusals are read

    return secret, quote(secret, "", errors="replace"), quote_plus(secret, errors="replace"), html.escape(secret)


def about(error: str, words: str) -> str | None:
    """What a refusal is about, as one of the causes of a TokenEndpointError; None: about the grant itself, or unsaid.

    `words`: as `words_of` gives them.
    """
    if error not in _MAY_BE_ABOUT_ANYTHING:
        return _BY_CODE.get(error)
    return next((cause for cause, pattern in _BY_WORDS.items() if re.search(pattern, words, re.IGNORECASE)), None)
