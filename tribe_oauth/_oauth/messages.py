"""OAuth 2.0 as Tribe speaks it, as pure functions: no await, no clock, no randomness, no aiohttp.

What is built here is read here: the authorization URL and the callback, the token request and its answer. Whatever
the server may say becomes one of three values, and nothing a server says raises:

    Granted     a token answer whose decisive parts could be read (RFC 6749 §5.1)
    Refused     an error answer in OAuth's own form (RFC 6749 §5.2)
    Unreadable  anything else: HTML, half an answer, a gateway's page, nonsense

Only `Refused` can ever say something about an organization.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit, urlunsplit

import attrs

from tribe_oauth._oauth.values import Secret, parse_scope
from tribe_oauth.errors import CallbackError

MAX_ANSWER_BYTES = 64 * 1024
MAX_TOKEN_CHARACTERS = 8 * 1024
MAX_EXPIRES_IN = 30 * 24 * 3600
DEFAULT_EXPIRES_IN = 300
"""Seconds assumed where the answer has no usable `expires_in`: short, so that a wrong guess costs a refresh."""

_ACCESS_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 §2.1, b64token
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_SCOPE = re.compile(r"[\x20-\x7e]*")  # RFC 6749 §3.3, and the backslash and quote that nobody minds
_SECRET_FIELDS = frozenset({"client_secret", "code", "code_verifier", "refresh_token", "token"})


# The authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3)


def authorization_url(
    endpoint: str,
    *,
    client_id: str,
    redirect_uri: str,
    scope: str,
    state: str,
    code_challenge: str | None = None,
    organization_id: str | None = None,
) -> str:
    """The URL to send the browser to. A query that the endpoint already has is kept (RFC 6749 §3.1)."""
    query = {
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "scope": scope,
        "state": state,
    }
    if organization_id is not None:
        query["organization_id"] = organization_id
    if code_challenge is not None:
        query |= {"code_challenge": code_challenge, "code_challenge_method": "S256"}
    parts = urlsplit(endpoint)
    encoded = urlencode(query, quote_via=quote)
    return urlunsplit(parts._replace(query=f"{parts.query}&{encoded}" if parts.query else encoded))


def code_challenge(verifier: Secret) -> str:
    """S256, the only method used (RFC 7636 §4.2)."""
    digest = hashlib.sha256(verifier.reveal().encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Callback:
    """A callback that belongs to its request: the only thing a code is taken from."""

    code: Secret
    scope: frozenset[str] | None


def read_callback(callback_url: str, *, redirect_uri: str, state: str, issuer: str) -> Callback:
    """Read what the browser brought back (RFC 6749 §4.1.2, RFC 9207; the slash before ``?`` is Tribe's).

    Raises CallbackError, whose text has nothing of the query in it but the server's error code and description.
    """
    query = _callback_query(callback_url, redirect_uri)
    got = query.get("state", "").encode("utf-8", "surrogatepass")
    if not hmac.compare_digest(got, state.encode("ascii")):
        raise CallbackError(
            "the callback's state is not the one of this request: it belongs to another request, or was forged;"
            " start the connection again"
        )
    if "iss" in query and query["iss"].rstrip("/") != issuer.rstrip("/"):
        raise CallbackError("the callback names another authorization server (iss): start the connection again")
    if "error" in query:
        error, description = printable(query["error"]), printable(query.get("error_description", ""))
        raise CallbackError(f"consent was not given: {error} {description}".rstrip(), error=error)
    code = query.get("code", "")
    if not is_token_text(code):
        raise CallbackError("the callback has no usable code: start the connection again")
    if not _SCOPE.fullmatch(query.get("scope", "")):
        raise CallbackError("the callback has a scope that cannot be one: start the connection again")
    return Callback(code=Secret(code), scope=parse_scope(query["scope"]) if "scope" in query else None)


def _callback_query(callback_url: str, redirect_uri: str) -> dict[str, str]:
    """The parameters of a callback to this redirect URI, each at most once (RFC 6749 §3.1)."""
    try:
        arrived, registered = urlsplit(callback_url), urlsplit(redirect_uri)
        pairs = parse_qsl(arrived.query, keep_blank_values=True, max_num_fields=50)
        fixed = parse_qsl(registered.query, keep_blank_values=True)
    except ValueError:
        raise CallbackError("the callback URL cannot be read: pass it as the browser received it") from None
    # A proxy may have changed scheme and host; state and redirect_uri at the exchange bind the rest.
    if arrived.path.rstrip("/") != registered.path.rstrip("/"):
        raise CallbackError("the callback came to another path than the redirect URI of this request")
    for pair in fixed:
        if pair in pairs:
            pairs.remove(pair)
    query = dict(pairs)
    if len(query) != len(pairs):
        raise CallbackError("the callback has a parameter twice: start the connection again")
    return query


def is_token_text(text: str) -> bool:
    """Whether this can be a code or a refresh token: visible ASCII, 8 KiB at most."""
    return _acceptable(text, _VISIBLE_ASCII)


# The token request (RFC 6749 §4.1.3, §4.4.2, §6): client credentials always in the form body


class Form(bytes):
    """The body of a token request. It does not show itself: it stands in the frames of most tracebacks."""

    def __repr__(self) -> str:
        return "Form('***')"

    __str__ = __repr__


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


def _form(form: Mapping[str, str], client_id: str, client_secret: Secret) -> Form:
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
    """An error answer in the form of RFC 6749 §5.2. Both texts are printable and short."""

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
    """
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
        description = answer.get("error_description")
        text = description if isinstance(description, str) else ""
        return Refused(status=status, error=printable(_masked(error, sent)), description=printable(_masked(text, sent)))
    return Unreadable(status=status, reason=f"HTTP {status} without an OAuth error")


def _read_granted(answer: Mapping[str, Any]) -> Granted | Unreadable:
    complaints = []
    access_token, refresh_token = answer.get("access_token"), answer.get("refresh_token")
    if refresh_token is not None and not _acceptable(refresh_token, _VISIBLE_ASCII):
        return Unreadable(status=200, reason="HTTP 200 with an unreadable refresh token")
    token_type = answer.get("token_type")
    usable = _acceptable(access_token, _ACCESS_TOKEN)
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
    if scope is not None and not (isinstance(scope, str) and _SCOPE.fullmatch(scope)):
        complaints.append("a scope that cannot be one")
        scope = None
    return Granted(
        access_token=Secret(access_token) if usable and isinstance(access_token, str) else None,
        refresh_token=None if refresh_token is None else Secret(refresh_token),
        expires_in=DEFAULT_EXPIRES_IN if expires_in is None else expires_in,
        scope=None if scope is None else parse_scope(scope),
        complaints=tuple(complaints),
    )


def _acceptable(token: object, alphabet: re.Pattern[str]) -> bool:
    return isinstance(token, str) and len(token) <= MAX_TOKEN_CHARACTERS and bool(alphabet.fullmatch(token))


def _read_expires_in(value: object) -> int | None:
    """Seconds, at most 30 days; the cautious default where there is none; None for what cannot be a lifetime."""
    if value is None:
        return DEFAULT_EXPIRES_IN
    if isinstance(value, str) and len(value) <= 12 and value.isascii() and value.isdecimal():
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


def _masked(text: str, sent: bytes) -> str:
    for name, value in parse_qsl(sent.decode("ascii")):
        if name in _SECRET_FIELDS and len(value) >= 8:  # what is shorter is no secret, and is in any text by chance
            text = text.replace(value, "***")
    return text


def printable(text: str, limit: int = 200) -> str:
    """Words from outside, cut and with control characters escaped, fit for a log line and for an error's text."""
    cut = text[:limit] + ("…" if len(text) > limit else "")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in cut)
