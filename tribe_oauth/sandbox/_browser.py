"""A person in front of the consent page, over real HTTP."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape

from aiohttp import ClientSession, FormData
from yarl import URL


async def approve(url: str, *, organization: str | None, scopes: Sequence[str] | None, deny: bool) -> str:
    """Open the page, decide, and return where the browser is sent. Raises RuntimeError where there is no such page."""
    async with ClientSession() as session:
        async with session.get(URL(url, encoded=True), allow_redirects=False) as response:
            text = await response.text()
        if response.status == 303:
            return response.headers["Location"]
        if response.status != 200:
            title = re.search("<title>(.*?)</title>", text)
            raise RuntimeError(f"the consent page says: {unescape(title[1]) if title else response.status}")
        form = _filled(text, organization, scopes, deny)
        async with session.post(URL(url, encoded=True), data=form, allow_redirects=False) as response:
            return response.headers["Location"]


def _filled(text: str, organization: str | None, scopes: Sequence[str] | None, deny: bool) -> FormData:
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
