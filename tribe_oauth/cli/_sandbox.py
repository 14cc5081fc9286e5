"""``tribe-oauth sandbox``: an emulated Tribe on this machine."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer

from tribe_oauth.cli._words import console
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sandbox import PROFILES, ApiRules, Sandbox

TOKENS: Final = 5
"""Refresh tokens that are shown, at most, each of an organization of its own."""


def _known(profile: str) -> str:
    if profile not in PROFILES:
        raise typer.BadParameter(f"choose one of {', '.join(PROFILES)}")
    return profile


def _rules(words: list[str]) -> ApiRules:
    try:
        return ApiRules.from_words(words)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


async def sandbox(
    port: Annotated[int, typer.Option(help="Port to listen at; 0: a free one.", min=0, max=65_535)] = 0,
    profile: Annotated[str, typer.Option(help=f"One of {', '.join(PROFILES)}.", callback=_known)] = "strict",
    seed: Annotated[int, typer.Option(help="Seed of the generated data.")] = 0,
    organizations: Annotated[int, typer.Option(help="How many organizations.", min=1)] = 3,
    persons: Annotated[int, typer.Option(help="Persons in each organization.", min=0)] = 250,
    rule: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A rule of the API, as docs/tribe.md has them.")
    ] = None,
    redirect_uri: Annotated[
        str, typer.Option(help="Registered with the Application; on 127.0.0.1 any port is accepted.")
    ] = "http://127.0.0.1/callback",
) -> None:
    """Serve an emulated Tribe on this machine, and show how to use it."""
    emulated = Sandbox(
        port=port,
        profile=profile,
        seed=seed,
        organizations=organizations,
        persons=persons,
        api=_rules(rule or []),
        redirect_uri=redirect_uri,
    )
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(emulated)
        except OSError as error:
            raise ConfigurationError(
                f"port {port} cannot be listened at ({error.strerror}): choose another --port, or 0 for a free one"
            ) from None
        folder = stack.enter_context(TemporaryDirectory(prefix="tribe-oauth-sandbox-"))
        _show(emulated, Path(folder) / "tribe.db")
        await asyncio.Event().wait()


def _show(sandbox: Sandbox, store: Path) -> None:
    """`store`: of its own, so that nothing that is connected to Tribe itself is taken for what is connected here."""
    names, screen = list(sandbox.organizations), console()
    screen.print(f"An emulated Tribe is at [bold]{sandbox.base}[/]. It has: {', '.join(names)}.")
    screen.print("In another terminal:\n")
    for name, value in (sandbox.environment | {"TRIBE_STORE": str(store)}).items():
        screen.print(f"  export {name}={value}", highlight=False, soft_wrap=True)
    screen.print("  tribe-oauth get Relation_Person --top 5\n")
    screen.print("To connect by Quick Setup, refresh tokens to paste; each works once:\n")
    for name in names[:TOKENS]:
        screen.print(f"  {name}: {sandbox.paste_token(name)}", markup=False, highlight=False, soft_wrap=True)
    screen.print("  tribe-oauth connect acme --paste\n")
    screen.print("Ctrl-C ends it.")
