"""``tribe-oauth sandbox``: an emulated Tribe on this machine."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated

import typer
from rich.console import Console

from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sandbox import PROFILES, ApiRules, Sandbox


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
        _show(emulated)
        await asyncio.Event().wait()


def _show(sandbox: Sandbox) -> None:
    console = Console()
    console.print(f"An emulated Tribe is at [bold]{sandbox.base}[/]. It has: {', '.join(sandbox.organizations)}.")
    console.print("In another terminal:\n")
    for name, value in sandbox.environment.items():
        console.print(f"  export {name}={value}", highlight=False, soft_wrap=True)
    console.print("  tribe-oauth get Relation_Person --top 5\n")
    console.print("Ctrl-C ends it.")
