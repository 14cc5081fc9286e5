"""The authorization request and its callback, as pure functions: no await, no clock, no randomness, no aiohttp."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import attrs

from tribe_oauth._oauth.values import Secret, is_scope_text, is_token_text, parse_scope
from tribe_oauth._oauth.words import MAX_CODE, about, shown, words_of
from tribe_oauth.errors import SCOPE, CallbackError

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


def read_callback(callback_url: str, *, redirect_uri: str, state: str, issuer: str, scope: str) -> Callback:
    """Read what the browser brought back (RFC 6749 §4.1.2, RFC 9207; the slash before ``?`` is Tribe's).

    `scope`: what was asked for. Raises CallbackError, whose text has nothing of the query in it but the server's error
    code and description.
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
        raise _refused(query, scope, secrets=[state, query.get("code", "")])
    code = query.get("code", "")
    if not is_token_text(code):
        raise CallbackError("the callback has no usable code: start the connection again")
    if not is_scope_text(query.get("scope", "")):
        raise CallbackError("the callback has a scope that cannot be one: start the connection again")
    return Callback(code=Secret(code), scope=parse_scope(query["scope"]) if "scope" in query else None)


def _refused(query: dict[str, str], scope: str, secrets: list[str]) -> CallbackError:
    """What the server says in place of a code (RFC 6749 §4.1.2.1)."""
    error, words = shown(query["error"], secrets, MAX_CODE), words_of(query, secrets)
    remedy = ""
    if about(error, words) == SCOPE:
        remedy = (
            f": it was asked for {scope!r}; give the Application that scope under Configuration > Applications in"
            " Tribe, or ask for less (scope= of the client or of authorization_request, TRIBE_SCOPE)"
        )
    return CallbackError(f"consent was not given: {error} {words}".rstrip() + remedy, error=error)


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
