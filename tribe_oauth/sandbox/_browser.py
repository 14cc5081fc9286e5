"""Plays a person who decides on the consent page, over real HTTP."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape

from aiohttp import ClientSession, FormData
from yarl import URL

from tribe_oauth._shield import run_uninterrupted


async def approve(url: str, *, organization: str | None, scopes: Sequence[str] | None, deny: bool) -> str:
    """Open the page, decide, and return the URL that the browser is sent to.

    Raises RuntimeError for a page that asks for no consent, with its title, or that does not offer the organization.
    """
    session = ClientSession()
    try:
        location, text = await _open(session, "GET", url)
        if location is None:
            location, text = await _open(session, "POST", url, _filled(text, organization, scopes, deny))
    finally:
        await run_uninterrupted(session.close())
    if location is None:
        raise RuntimeError("the consent page asks again instead of sending the browser back: this is no sandbox's page")
    return location


async def _open(session: ClientSession, method: str, url: str, form: FormData | None = None) -> tuple[str | None, str]:
    """Where the answer sends the browser, None for a page; and the page."""
    async with session.request(method, URL(url, encoded=True), data=form, allow_redirects=False) as response:
        text = await response.text()
        if response.status in {302, 303}:
            return response.headers["Location"], text
        if response.status != 200:
            title = re.search("<title>(.*?)</title>", text)
            raise RuntimeError(f"the consent page says: {unescape(title[1]) if title else response.status}")
        return None, text


def _filled(text: str, organization: str | None, scopes: Sequence[str] | None, deny: bool) -> FormData:
    """The page's form, as it is sent: the first organization, all scopes, unless told otherwise."""
    options = [
        (unescape(key), unescape(name)) for key, name in re.findall('<option value="(.*?)">(.*?)</option>', text)
    ]
    chosen = [key for key, name in options if organization in {None, name}]
    if not chosen:
        raise RuntimeError(f"the consent page has no organization {organization!r}")
    offered = [unescape(scope) for scope in re.findall('name="scope" value="(.*?)"', text)]
    form = FormData({"organization": chosen[0], "decision": "deny" if deny else "allow"})
    for scope in offered:
        if scopes is None or scope in scopes:
            form.add_field("scope", scope)
    return form
