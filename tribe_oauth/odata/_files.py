"""Files of entities: sent in base64 inside of JSON, as Tribe takes them, and read as the bytes that they are.

Imported by nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Self
from uuid import UUID

import attrs
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout
from yarl import URL

from tribe_oauth import _encoded
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._answer import MAX_REFUSAL_BYTES, ODataError, content_of, no_answer, refusal
from tribe_oauth.odata._body import File
from tribe_oauth.odata._next_link import is_below_root, verbatim
from tribe_oauth.odata._retries import GIVE_UP_AFTER, patiently
from tribe_oauth.odata._writes import update

FILE_ROOT: Final = "/v1/odata-file/"


async def upload(
    session: ClientSession,
    entity_set: str,
    key: str | UUID,
    field: str,
    file: File,
    *,
    give_up_after: float = GIVE_UP_AFTER,
) -> dict[str, Any]:
    """Send a file to a field of an entity, as in ``"Picture"`` of a person; it takes the place of the one before.

    It is read while it is sent, and never held whole. A file can also be a field of what `create` writes: an
    ``Attachment``, for example. Otherwise as `update`.
    """
    if not isinstance(file, File):
        raise ConfigurationError("the file to send is an odata.File, which has its content, its name and its type")
    return await update(session, entity_set, key, {field: file}, give_up_after=give_up_after)


@attrs.define(eq=False)
class Download:
    """A file while it is read, once: ``async for block in download``, none of them empty.

    `mime_type`, `name`: as the API says, or None. `size`: bytes, where they are known before. Raises ODataError where
    the file breaks off.
    """

    mime_type: str | None
    name: str | None
    size: int | None
    _response: ClientResponse = attrs.field(repr=False)
    _read: int = attrs.field(default=0, init=False, repr=False)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            block = await self._response.content.readany()
        except (ClientError, TimeoutError) as cause:
            failure = no_answer(cause)
        else:
            self._read += len(block)
            if block:
                return block
            raise StopAsyncIteration
        # After the handler: aiohttp's errors carry the request's headers, and would travel in this one's context.
        raise ODataError(
            f"the file broke off after {self._read} bytes ({failure}): what came of it is not whole, read it again",
            status=self._response.status,
            retryable=True,
        )


@asynccontextmanager
async def download(
    session: ClientSession, where: str, *, give_up_after: float = GIVE_UP_AFTER
) -> AsyncIterator[Download]:
    """Open a file, to be read block by block.

    `where`: the ``Url`` of a file's object, or a path below ``/v1/odata-file/``, such as ``f"Attachment/{id}/File"``.
    Only the path of an ``Url`` counts: the request goes to the session's API, so that no other host sees a token. What
    passes by itself is tried again for `give_up_after` seconds, until the file begins. It may take as long as it goes
    on: the session's total time-out is for a silence here. Raises ODataError, ConfigurationError, and errors of the
    session's own middlewares unchanged.
    """
    url = _address(where)
    response = await patiently(lambda: _opened(session, url), "a file is asked for", give_up_after=give_up_after)
    async with response:
        headers, disposition = response.headers, response.content_disposition
        size = None if "Content-Encoding" in headers else response.content_length
        yield Download(
            mime_type=response.content_type if "Content-Type" in headers else None,
            name=None if disposition is None else disposition.filename,
            size=size,
            response=response,
        )


def _address(where: str) -> URL:
    try:
        url = verbatim(where)
        path = url.raw_path_qs if url.absolute or where.startswith("/") else f"{FILE_ROOT}{where}"
        address = verbatim(path)
        if is_below_root(address.path, FILE_ROOT):
            return address
    except ValueError:
        pass
    raise ConfigurationError(f"a file is at the Url that its object has, or at a path below {FILE_ROOT}")


async def _opened(session: ClientSession, url: URL) -> ClientResponse:
    """The answer, whose body is not read yet."""
    allowed = session.timeout
    silence = ClientTimeout(
        connect=allowed.connect, sock_connect=allowed.sock_connect, sock_read=allowed.sock_read or allowed.total
    )
    try:
        with _encoded.as_it_is():
            response = await session.get(url, allow_redirects=False, raise_for_status=False, timeout=silence)
        if response.status == 200:
            return response
        async with response:
            content = await content_of(response, MAX_REFUSAL_BYTES)
        failure = refusal(response.status, response.headers, content)
    except (ClientError, TimeoutError) as cause:
        failure = no_answer(cause)
    # After the handler: aiohttp's errors carry the request's headers, and would travel in this one's context.
    raise failure
