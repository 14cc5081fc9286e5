"""What becomes of a request that goes wrong: not sent, or lost, and whether it can still arrive (F2, S14)."""

from __future__ import annotations

import asyncio
import errno
import random
import socket

import aiohttp
import pytest

from tribe_oauth import Secret
from tribe_oauth._oauth.endpoint import Answered, Lost, NotSent, TokenEndpoint, _ended_by_peer
from tribe_oauth._oauth.messages import Granted

from .servers import ANSWER, FORM, HEAD, Raw

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (20, ANSWER[:20], len(ANSWER) - 20, ANSWER[20:])
)
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + ANSWER


def saying(text: bytes) -> Raw:
    """A server that says this and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return Raw(talk)


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing until the client goes."""
    await reader.read()


# Not sent


async def test_nobody_there(endpoint: TokenEndpoint) -> None:
    """Refused: not sent, and so known; nobody is asked for leave."""
    asked = asyncio.Event()

    def may_leave() -> bool:
        asked.set()
        return True

    with socket.socket() as unheard:  # bound, so that nobody else takes the port, and not listening
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/"
        outcome = await endpoint.post(url, FORM, may_leave=may_leave)
    assert isinstance(outcome, NotSent)
    assert "ClientConnectorError" in outcome.reason
    assert not asked.is_set()


async def test_a_handshake_that_does_not_end(hasty: TokenEndpoint) -> None:
    """The deadline before the body left: not sent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outcome = await hasty.post(f"https://127.0.0.1:{silent.getsockname()[1]}/", FORM)
    assert outcome == NotSent("no answer within 0.2 s")


async def test_no_leave(endpoint: TokenEndpoint) -> None:
    """Asked after connecting, right before the bytes leave: no byte of the body was seen by anybody."""
    gone = asyncio.Event()
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read())
        writer.close()
        gone.set()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    outcome = await endpoint.post(url, FORM, may_leave=lambda: False)
    async with asyncio.timeout(5):
        await gone.wait()
    server.close()
    assert isinstance(outcome, NotSent)
    assert b"canary" not in heard


# Lost


@pytest.mark.parametrize("whole", [HEAD + ANSWER, CHUNKED, UNTIL_CLOSED], ids=["length", "chunked", "until-closed"])
async def test_cut_after_every_byte(endpoint: TokenEndpoint, whole: bytes) -> None:
    """F2: wherever it breaks off, however its end is told, it is lost, or its new refresh token is kept."""
    for cut in range(len(whole)):
        async with saying(whole[:cut]) as raw:
            outcome = await endpoint.post(raw.url, FORM)
        assert raw.connections == 1
        if b'"refresh_token":"rt"' in whole[:cut].replace(b" ", b""):
            assert isinstance(outcome, Answered), cut
            assert isinstance(outcome.reading, Granted)
            assert outcome.reading.refresh_token == Secret("rt")
            assert outcome.reading.complaints
            continue
        if whole is UNTIL_CLOSED and cut >= whole.index(ANSWER):  # all of the answer as far as HTTP can tell
            assert isinstance(outcome, Answered)
            assert not isinstance(outcome.reading, Granted)
            continue
        assert isinstance(outcome, Lost), cut
        if cut > whole.index(b"\r\n\r\n") + 4:
            assert not outcome.over
    async with saying(whole) as raw:
        outcome = await endpoint.post(raw.url, FORM)
    assert isinstance(outcome, Answered)
    assert isinstance(outcome.reading, Granted)


async def test_a_reset(endpoint: TokenEndpoint) -> None:
    """The body may have arrived; nothing of it can still arrive. It is not sent again by itself."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # on, no seconds: closing resets
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with Raw(talk) as raw:
        outcome = await endpoint.post(raw.url, FORM)
    assert outcome == Lost("the connection failed (ClientOSError)", over=True)
    assert raw.connections == 1


async def test_closed_in_silence(endpoint: TokenEndpoint) -> None:
    """A connection that the server ends without a word: lost, and sent once."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Says nothing."""

    async with Raw(talk) as raw:
        outcome = await endpoint.post(raw.url, FORM)
    assert outcome == Lost("the connection failed (ServerDisconnectedError)", over=True)
    assert (raw.connections, len(raw.heard)) == (1, 1)


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (aiohttp.ServerDisconnectedError(), True),
        (ConnectionResetError(), True),
        (aiohttp.ClientConnectionResetError(), True),
        (aiohttp.ClientOSError(errno.ECONNRESET, "reset"), True),
        (aiohttp.ClientOSError(errno.EPIPE, "broken pipe"), True),
        (aiohttp.ClientOSError(errno.ETIMEDOUT, "no acknowledgement"), False),
        (aiohttp.ClientOSError(errno.EHOSTUNREACH, "no route"), False),
        (aiohttp.ClientPayloadError(), False),
        (aiohttp.ClientConnectionError("connector closed"), False),
    ],
)
def test_who_ended_it(error: Exception, ended: bool) -> None:
    """Only the other side's close or reset says that nothing can still arrive; a broken route does not."""
    assert _ended_by_peer(error) is ended


async def test_no_answer(hasty: TokenEndpoint) -> None:
    """F2: the total deadline; the request may still arrive."""
    async with Raw(hang) as raw:
        outcome = await hasty.post(raw.url, FORM)
    assert outcome == Lost("no answer within 0.2 s", over=False)


async def test_a_slow_drip(hasty: TokenEndpoint) -> None:
    """S14, F2: an answer that comes on and on never ends later than the deadline."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED[: CHUNKED.index(b"\r\n\r\n") + 4])
        while True:
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.005)

    async with Raw(talk) as raw:
        outcome = await hasty.post(raw.url, FORM)
    assert outcome == Lost("no answer within 0.2 s", over=False)


async def test_cancelled(endpoint: TokenEndpoint) -> None:
    """A cancelled post ends as cancelled, lets its connection go, and leaves the endpoint usable."""
    heard, gone = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set()
        await reader.read()
        gone.set()

    async with Raw(talk) as raw, asyncio.timeout(5):
        task = asyncio.create_task(endpoint.post(raw.url, FORM))
        await heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone.wait()
    async with saying(HEAD + ANSWER) as raw:
        assert isinstance(await endpoint.post(raw.url, FORM), Answered)


@pytest.mark.parametrize(
    "text",
    [
        b"\0" * 100,
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n" + ANSWER,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        HEAD.replace(b"Length: ", b"Length: -"),
        CHUNKED.replace(b"14\r\n", b"zz\r\n", 1),
        HEAD.replace(b"200 OK", b"101 Switching Protocols") + ANSWER,
        HEAD.replace(b"200 OK", b"200 \xff\xfe") + b"{" * len(ANSWER),
    ],
    ids=range(8),
)
async def test_nonsense(hasty: TokenEndpoint, text: bytes) -> None:
    """What is not HTTP, or not to the end, is lost or unreadable; it is no exception, and no token."""
    async with saying(text) as raw:
        outcome = await hasty.post(raw.url, FORM)
    assert isinstance(outcome, Lost | Answered)
    assert not (isinstance(outcome, Answered) and isinstance(outcome.reading, Granted))


async def test_nothing_surprises(endpoint: TokenEndpoint) -> None:
    """Whatever bytes come back, the outcome of what was sent is one of two."""
    chance = random.Random(17)
    for _ in range(300):
        text = bytearray(chance.choice([HEAD + ANSWER, CHUNKED, UNTIL_CLOSED]))
        for _ in range(chance.randint(1, 6)):
            text[chance.randrange(len(text))] = chance.choice(b'\r\n: {}",0129aeZ\0\xff')
        async with saying(bytes(text)) as raw:
            outcome = await endpoint.post(raw.url, FORM)
        assert isinstance(outcome, Lost | Answered), bytes(text)
