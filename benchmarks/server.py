"""The other side, in a process of its own: an API, a token endpoint with a latency, and pages of rows.

Written on bare asyncio, so that it is never slower than the clients that are measured. Not a server for anything else:
it believes what it reads.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from itertools import count
from typing import Final
from urllib.parse import unquote

import aiohttp
import attrs

ROWS_IN_A_PAGE: Final = 50
LIFETIME: Final = 86_400
_BOUNDS: Final = (r"ID gt [0-]+(\d+)\b", r"ID lt [0-]+(\d+)\b", r"\$skip=(\d+)")
_WIDE: Final = (
    b'{"ID":"00000000-0000-0000-0000-%012d","_Type":"Relation.Person","FirstName":"Anna","LastName":"de Vries",'
    b'"EmailAddress":"anna.%d@example.com","PhoneNumber":null,"MobilePhoneNumber":"+31612345678","Amount":34.50,'
    b'"IsActive":null,"CreationDate":"2022-09-27T08:34:26Z","LastMutationDate":"2025-01-31T23:59:59Z","Number":%d}'
)
_ROW: Final = '{"ID": "%036d", "FirstName": "Anna", "LastName": "de Vries"}'


class Server(asyncio.Protocol):
    """One connection; requests one after another."""

    issued = count(1)
    asked = 0
    latency = 0.0
    rows = ", ".join(_ROW % number for number in range(1, ROWS_IN_A_PAGE))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._read = b""

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        if not end or len(body) < _content_length(head):
            return
        self._read = b""
        method, target, _ = head.split(b" ", 2)
        if method == b"POST":
            Server.asked += 1
            asyncio.get_running_loop().call_later(Server.latency, self._answer, _token(next(Server.issued)))
        elif target.startswith(b"/v1/odata/Pages_"):
            self._answer(_page(target.decode()))
        elif target.startswith(b"/v1/odata/Keyed_"):
            self._answer(_keyed(unquote(target.decode())))
        elif target == b"/asked":
            self._answer(b"%d" % Server.asked)
        elif b" Bearer " in head:
            self._answer(b'{"value":[]}')
        else:
            self._answer(b"{}", b"401 Unauthorized")

    def _answer(self, body: bytes, status: bytes = b"200 OK") -> None:
        self._transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
        )


def _content_length(head: bytes) -> int:
    found = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return int(found or 0)


def _token(number: int) -> bytes:
    """As long as Tribe's: Ory's tokens have 87 characters."""
    return b'{"access_token":"%087d","refresh_token":"%087d","token_type":"bearer","expires_in":%d,"scope":"read"}' % (
        *(number, number),
        LIFETIME,
    )


def _page(target: str) -> bytes:
    """Page n of ``/v1/odata/Pages_<how many>?$skiptoken=<n>``. Its first row is its own: equal pages are an error."""
    path, _, query = target.partition("?")
    pages, number = int(path.rpartition("_")[2]), int(query.partition("$skiptoken=")[2] or 1)
    link = f',"@odata.nextLink":"{path}?$skiptoken={number + 1}"' if number < pages else ""
    return f'{{"value":[{_ROW % (number << 20)}, {Server.rows}]{link}}}'.encode()


@cache
def _rows(many: int) -> list[bytes]:
    return [_WIDE % (number, number, number) for number in range(1, many + 1)]


def _keyed(target: str) -> bytes:
    """Rows of ``/v1/odata/Keyed_<how many>`` by ``$skip``, or by their keys, with a count: without nextLink."""
    path, _, query = target.partition("?")
    rows = _rows(int(path.rpartition("_")[2]))
    behind, before, skip = (re.search(pattern, query) for pattern in _BOUNDS)
    start = int(behind[1]) if behind else 0
    stop = int(before[1]) - 1 if before else len(rows)
    first = start + (int(skip[1]) if skip else 0)
    page = b",".join(rows[first : min(stop, first + 100)])
    return b'{"@odata.context":"$metadata#OData.Keyed","@odata.count":%d,"value":[%b]}' % (max(0, stop - start), page)


@attrs.frozen
class Running:
    """A server's address, and how often its token endpoint was asked."""

    url: str

    async def asked(self) -> int:
        """So far."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/asked") as response:
            return int(await response.text())


@asynccontextmanager
async def running(latency: float = 0.0) -> AsyncIterator[Running]:
    """A server whose token endpoint takes so many seconds."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.server", "--latency", str(latency)), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield Running((await process.stdout.readline()).decode().strip())
    finally:
        process.terminate()
        await process.wait()


async def main(latency: float) -> None:
    """Serve until the end of the process."""
    Server.latency = latency
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    asyncio.run(main(parser.parse_args().latency))
