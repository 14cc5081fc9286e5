"""Which organization connected: the API is asked, and the key begins with the tenant who connected it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from aiohttp import ClientSession

from tribe_oauth import odata
from tribe_oauth.errors import ConfigurationError, TribeOAuthError

MAX_TENANT_BYTES: Final = 200
MAX_ORGANIZATION_BYTES: Final = 300
"""With the tenant before it, it makes a key."""
MAX_KEY_BYTES: Final = 512

PATIENCE: Final = 10.0
"""Seconds: a browser waits."""

_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


async def organization_id(session: ClientSession) -> str:
    """Tribe's id of the organization that this session's token belongs to.

    It is that of `odata.own_organization`. Raises TribeOAuthError where the API does not say it, and odata.ODataError
    or aiohttp's ClientError where it does not answer.
    """
    try:
        found = await odata.own_organization(session, give_up_after=PATIENCE)
    except odata.ODataError as error:
        if error.status is not None or error.retryable:
            raise
        unsaid = str(error)
    else:
        return normal(found.id)
    raise TribeOAuthError(
        f"{unsaid}. Nothing was connected: pass setup() a `find` of your own, or pass find=None and pin organizations"
        " by their id"
    )


def normal(organization: str) -> str:
    """An organization's id in one spelling: a UUID in lower case, anything else as it is.

    Raises ValueError where it cannot be one.
    """
    if not isinstance(organization, str) or not 0 < len(organization.encode()) <= MAX_ORGANIZATION_BYTES:
        raise ValueError(f"an organization is text of 1 to {MAX_ORGANIZATION_BYTES} bytes in UTF-8")
    return organization.lower() if _UUID.fullmatch(organization) else organization


def is_key(text: str) -> bool:
    """Whether it can be an organization's key, or a part of one: what is longer is not even logged."""
    return 0 < len(text.encode("utf-8", "surrogatepass")) <= MAX_KEY_BYTES


def prefix_of(tenant: str) -> str:
    """What the keys of a tenant's organizations begin with. No other tenant's keys begin so."""
    try:
        prefix = f"{quote(tenant, safe='')}:"
    except (TypeError, ValueError):
        prefix = ""
    if not 1 < len(prefix) <= MAX_TENANT_BYTES or not isinstance(tenant, str):
        raise ConfigurationError(
            "authorize() returned what is no tenant: return text that takes 1 to"
            f" {MAX_TENANT_BYTES - 1} bytes when it is percent-encoded, True for an operator, or None"
        )
    return prefix
