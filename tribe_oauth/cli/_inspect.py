"""What the doctor finds without asking Tribe: variables, the store, and which organization is meant."""

from __future__ import annotations

import difflib
import os
import secrets
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from typing import Final

from tribe_oauth import MemoryStore, RefreshTokenGrant, TokenManager, TokenStore, TribeOAuthError
from tribe_oauth._manager import settings as environment
from tribe_oauth._manager.organizations import listed, not_connected
from tribe_oauth._manager.settings import Settings
from tribe_oauth._refresh.payload import Payload, fingerprint, readable
from tribe_oauth.cli._finding import Finding, look, ok, wrong
from tribe_oauth.cli._words import told

VARIABLES: Final = tuple(
    f"TRIBE_{name}"
    for name in (
        *("CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN", "REDIRECT_URI", "SCOPE", "ORGANIZATION_ID"),
        *("STORE", "STORE_KEYS", "AUTH_URL", "API_URL", "PROXY", "ALLOW_INSECURE_LOOPBACK"),
    )
)
_WITHOUT_BLANKS: Final = {"TRIBE_CLIENT_ID", "TRIBE_CLIENT_SECRET", "TRIBE_AUTH_URL", "TRIBE_API_URL"}
_LOOKING: Final = b"\0doctor"
"""A note that no organization can have written: no claim stood before it."""


def inspect_variables(environ: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Names that nothing reads, and values that a shell or a file has left its marks on. No value is shown."""
    env = os.environ if environ is None else environ
    for name in sorted(env):
        value = env[name].strip()
        if name.startswith("TRIBE_") and name.removesuffix("_FILE") not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, 1, 0.8)
            yield look(name, f"nothing reads it: {f'it may be meant for {near[0]}' if near else 'unset it'}")
        elif name in VARIABLES and len(value) > 1 and value[0] in "'\"" and value[0] == value[-1]:
            yield wrong(
                name, "the value is in quotes, which are part of it: remove them; env files are not read by a shell"
            )
        elif name in _WITHOUT_BLANKS and len(value.split()) > 1:
            yield wrong(name, "the value has a blank in it: copy it again, without what stands beside it")


async def inspect_store(store: TokenStore) -> Finding:
    """Whether the store takes a note and gives it back. What is not there is not made."""
    kind, key = type(store).__name__, f"doctor:{secrets.token_hex(8)}"
    path = environment.store_path()
    if path is not None and _is_missing(path):
        return _absent(path)
    try:
        await store.put(key, b"written", lives_for=60)
        kept = await store.take(key)
    except TribeOAuthError as error:
        return wrong("store", told(error))
    if kept != b"written":
        return wrong(
            "store",
            f"{kind} lost what was just written: refresh tokens would be lost too; check that it is durable, and that"
            " TRIBE_STORE leads to one server",
        )
    if isinstance(store, MemoryStore):
        return look("store", f"{kind}: every refresh token is lost when this process ends; set TRIBE_STORE")
    return ok("store", f"{kind} keeps what it is given")


def _is_missing(path: Path) -> bool:
    return not os.path.lexists(path)


def _absent(path: Path) -> Finding:
    folder = next(parent for parent in path.parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        return wrong("store", f"{str(path)!r} cannot be made: {str(folder)!r} is no folder that this user can write to")
    if environment.missing_store() is None:
        return ok("store", f"nothing is stored yet; 'tribe-oauth connect' makes {str(path)!r}")
    return look(
        "store",
        f"TRIBE_STORE names {str(path)!r}, and there is nothing: 'tribe-oauth connect' makes it; where something was"
        " connected before, correct TRIBE_STORE",
    )


async def inspect_meant(manager: TokenManager, known: Settings) -> AsyncGenerator[Finding]:
    """Which organization commands mean where none is named."""
    there = await manager._organizations.some()
    if known.organization is None:
        if len(there) > 1:
            yield look(
                "which organization",
                f"connected are {listed(there)}: name one with --organization, or set TRIBE_ORGANIZATION_ID",
            )
        return
    record = await manager.store.load(known.organization)  # one that cannot be read is there, and told elsewhere
    if not there or known.pasted or (record is not None and record.status != "disconnected"):
        return
    error = not_connected(known.organization, there)
    yield wrong("which organization", f"TRIBE_ORGANIZATION_ID: {told(error)}; or correct it")


async def inspect_pasted(manager: TokenManager, known: Settings) -> Finding:
    """What is known of the refresh token in the environment: it works once, so that it is not tried."""
    what, grant = "TRIBE_REFRESH_TOKEN", known.grant
    if not isinstance(grant, RefreshTokenGrant):
        return ok(what, "not set: client credentials")
    if _is_of_another_kind(grant, known):
        return wrong(what, "it is no refresh token, but an access token or the client secret: copy it again from Tribe")
    mark = fingerprint(grant.refresh_token)
    claim = await manager.store.put(f"pasted:{mark}", _LOOKING, lives_for=1) if _can_look(manager) else _LOOKING
    record = await manager.store.load(known.own)
    if record is not None and mark in (readable(record) or Payload()).seen:
        if record.status == "reauthorization_required":
            return wrong(
                what, f"it is spent, and what came of it has ended ({record.cause}): copy a new one from Tribe"
            )
        return ok(what, f"organization {known.own} was connected by it")
    if claim != _LOOKING:
        if not await manager._organizations.some():
            return wrong(what, "it was tried before, and refused: copy a new one from Tribe")
        return look(what, "it was tried before: 'tribe-oauth status' shows what came of it")
    return look(
        what, "it is not tried here, since it works only once: 'tribe-oauth connect' does, and keeps what comes"
    )


def _can_look(manager: TokenManager) -> bool:
    """Whether a note can be looked for without making the file that it would be in."""
    path = environment.store_path()
    return path is None or not _is_missing(path)


def _is_of_another_kind(grant: RefreshTokenGrant, known: Settings) -> bool:
    token = grant.refresh_token
    return token == known.client.client_secret or token.reveal().startswith("ory_at_")
