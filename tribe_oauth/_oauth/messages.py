"""Messages to and from the token endpoint, as pure functions: no await, no clock, no randomness, no aiohttp.

Whatever the server may answer becomes one of three values, and nothing that a server says raises:

    Granted     a token answer whose decisive parts could be read (RFC 6749 §5.1)
    Refused     an error answer in OAuth's own form (RFC 6749 §5.2)
    Unreadable  anything else: HTML, half an answer, a gateway's page, nonsense

Only `Refused` can ever say something about an organization.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl, quote_plus

import attrs

from tribe_oauth._oauth.salvage import salvage
from tribe_oauth._oauth.values import (
    MAX_TOKEN_CHARACTERS,
    Secret,
    SecretBytes,
    is_scope_text,
    is_token_text,
    parse_scope,
)
from tribe_oauth._oauth.words import MAX_CODE, shown, words_of

MAX_ANSWER_BYTES = 64 * 1024
MAX_EXPIRES_IN = 30 * 24 * 3600
DEFAULT_EXPIRES_IN = 300
"""Seconds assumed where the answer has no usable `expires_in`: short, so that a wrong guess costs a refresh."""

_ACCESS_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 §2.1, b64token
_SECRET_FIELDS = frozenset({"client_secret", "code", "code_verifier", "refresh_token", "token"})


# The token request (RFC 6749 §4.1.3, §4.4.2, §6): client credentials always in the form body


class Form(SecretBytes):
    """The body of a token request."""


def code_request(
    client_id: str, client_secret: Secret, *, code: Secret, redirect_uri: str | None, verifier: Secret | None
) -> Form:
    """The exchange of a code. `redirect_uri` is the one of the authorization request (RFC 6749 §4.1.3)."""
    form = {"grant_type": "authorization_code", "code": code.reveal()}
    if redirect_uri is not None:
        form["redirect_uri"] = redirect_uri
    if verifier is not None:
        form["code_verifier"] = verifier.reveal()
    return _form(form, client_id, client_secret)


def refresh_request(client_id: str, client_secret: Secret, *, refresh_token: Secret, redirect_uri: str | None) -> Form:
    """A refresh. `redirect_uri` for a token that began with a code, None for a pasted one (Tribe's page)."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}
    if redirect_uri is not None:
        form["redirect_uri"] = redirect_uri
    return _form(form, client_id, client_secret)


def client_credentials_request(client_id: str, client_secret: Secret, *, scope: str) -> Form:
    """A token for the application itself."""
    return _form({"grant_type": "client_credentials", "scope": scope}, client_id, client_secret)


def revocation_request(client_id: str, client_secret: Secret, *, token: Secret) -> Form:
    """RFC 7009 §2.1."""
    return _form({"token": token.reveal(), "token_type_hint": "refresh_token"}, client_id, client_secret)


def client_mark(form: bytes) -> bytes:
    """What tells the client and its secret in a form from all others, without being either."""
    return hashlib.sha256(b"tribe_oauth client\0" + form[form.rfind(b"client_id=") :]).digest()


def _form(form: Mapping[str, str], client_id: str, client_secret: Secret) -> Form:
    # The client comes last: client_mark() relies on it.
    values = {**form, "client_id": client_id, "client_secret": client_secret.reveal()}
    return Form("&".join(f"{name}={quote_plus(value)}" for name, value in values.items()).encode("ascii"))


# The token answer (RFC 6749 §5.1, §5.2)


@attrs.frozen(kw_only=True, repr=False)
class Granted:
    """A token answer. `complaints` are parts beside the decisive ones that could not be believed.

    `access_token` is None only where `refresh_token` is not: the request was spent and answered, so that the new
    refresh token has to be kept whatever else is wrong.
    """

    access_token: Secret | None
    refresh_token: Secret | None
    expires_in: int
    scope: frozenset[str] | None
    complaints: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Refused:
    """An error answer in the form of RFC 6749 §5.2. Both texts are printable and short, and have no secret.

    `description`: what the server says beyond its standard sentences.
    """

    status: int
    error: str
    description: str


@attrs.frozen(kw_only=True)
class Unreadable:
    """An answer that is not OAuth."""

    status: int
    reason: str


def read_answer(status: int, content_type: str, body: bytes, *, sent: bytes = b"") -> Granted | Refused | Unreadable:
    """Read what the token endpoint answered. Never raises, whatever the bytes are.

    `sent` is the form that was posted: where an error repeats one of its secrets, a mask takes the secret's place.

    After a 2xx a refresh token that can be found beyond doubt is granted, whatever else is wrong with the answer.
    """
    reading = _read_in_form(status, content_type, body, sent)
    if isinstance(reading, Unreadable) and 200 <= status < 300:
        return _salvaged(body, sent, reading) or reading
    return reading


def _salvaged(body: bytes, sent: bytes, unreadable: Unreadable) -> Granted | None:
    values = {value for _name, value in parse_qsl(sent.decode("ascii"))}
    answer = salvage(body.decode("utf-8", "replace"), values)
    reading = None if answer is None else _read_granted(answer)
    if not isinstance(reading, Granted):
        return None
    return attrs.evolve(reading, complaints=(*reading.complaints, unreadable.reason))


def _read_in_form(status: int, content_type: str, body: bytes, sent: bytes) -> Granted | Refused | Unreadable:
    if content_type.partition(";")[0].strip().lower() != "application/json":
        return Unreadable(status=status, reason=f"HTTP {status} that is not JSON")
    try:
        answer = _json_object(body)
    except _UnreadableError as unreadable:
        return Unreadable(status=status, reason=f"HTTP {status}, {unreadable}")
    if status == 200:
        return _read_granted(answer)
    error = answer.get("error")
    if 400 <= status <= 599 and isinstance(error, str) and error:
        secrets = [value for name, value in parse_qsl(sent.decode("ascii")) if name in _SECRET_FIELDS]
        return Refused(status=status, error=shown(error, secrets, MAX_CODE), description=words_of(answer, secrets))
    return Unreadable(status=status, reason=f"HTTP {status} without an OAuth error")


def _read_granted(answer: Mapping[str, Any]) -> Granted | Unreadable:
    complaints = []
    access_token, refresh_token = answer.get("access_token"), answer.get("refresh_token") or None
    if refresh_token is not None and not (isinstance(refresh_token, str) and is_token_text(refresh_token)):
        return Unreadable(status=200, reason="HTTP 200 with an unreadable refresh token")
    token_type = answer.get("token_type")
    usable = _is_access_token(access_token)
    if not usable:
        complaints.append("no readable access token")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        usable = False
        complaints.append("a token type that is not bearer")
    if not usable and refresh_token is None:
        return Unreadable(status=200, reason=f"HTTP 200 with {', '.join(complaints)}")
    expires_in = _read_expires_in(answer.get("expires_in"))
    if expires_in is None:
        complaints.append("an absurd expires_in")
    scope = answer.get("scope")
    if scope is not None and not (isinstance(scope, str) and is_scope_text(scope)):
        complaints.append("a scope that cannot be one")
        scope = None
    return Granted(
        access_token=Secret(access_token) if usable and isinstance(access_token, str) else None,
        refresh_token=None if refresh_token is None else Secret(refresh_token),
        expires_in=DEFAULT_EXPIRES_IN if expires_in is None else expires_in,
        scope=None if scope is None else parse_scope(scope),
        complaints=tuple(complaints),
    )


def _is_access_token(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TOKEN_CHARACTERS and bool(_ACCESS_TOKEN.fullmatch(value))


def _read_expires_in(value: object) -> int | None:
    """Seconds, at most 30 days; the cautious default where there is none; None for what cannot be a lifetime."""
    if value is None:
        return DEFAULT_EXPIRES_IN
    if isinstance(value, str) and len(value) <= 12 and value.isascii() and value.removesuffix(".0").isdecimal():
        value = int(value.removesuffix(".0"))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        return None
    return min(value, MAX_EXPIRES_IN)


class _UnreadableError(Exception):
    """Why a body is not the JSON object it should be; without anything of the body."""


def _json_object(body: bytes) -> dict[str, Any]:
    """A JSON object without duplicate names, NaN or absurd depth."""
    if len(body) > MAX_ANSWER_BYTES:
        raise _UnreadableError(f"more than {MAX_ANSWER_BYTES // 1024} KiB")
    try:
        answer = _FROM_JSON(body.decode("utf-8"))
    except _UnreadableError:
        raise
    except (ValueError, RecursionError):
        raise _UnreadableError("JSON that cannot be read") from None
    if not isinstance(answer, dict):
        raise _UnreadableError("JSON that is not an object")
    return answer


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    answer = dict(pairs)
    if len(answer) != len(pairs):
        raise _UnreadableError("JSON with a name twice")
    return answer


def _no_constant(name: str) -> NoReturn:
    raise _UnreadableError(f"JSON with {name}")


def _bounded(digits: str) -> int:
    """An integer; of more digits than any number here can have, the first, so that Python does not refuse them all."""
    return int(digits[:20])


_FROM_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_bounded).decode
