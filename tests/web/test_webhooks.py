"""Webhooks: what is genuine is taken and answered at once, and nothing else is; what is done with it comes later."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import io
import json
import logging
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import attrs
import pytest
from aiohttp import ClientError, ClientSession, web

from tribe_oauth import Secret
from tribe_oauth import web as tribe_web
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.web import Change, Signature, WebhookEvent, _waiting, _webhooks

from ..serving import served

SECRET = "the webhook's own secret"
HEADER = "X-Of-Tribe"
ANNA = "6f9619ff-8b86-d011-b42d-00c04fc964ff"


def signature(body: bytes, secret: str = SECRET, kind: str = "sha512") -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, kind)).decode()


def message(key: str = ANNA, change: str = "Update", **more: Any) -> bytes:
    """As documented, with its kind as a value."""
    payload = {"type": f"Entity{change}Mutation", "entityId": key} | more
    return json.dumps({"webhookId": "hook-1", "payload": payload}).encode()


@attrs.define
class Receiver:
    """An application that receives webhooks. `events`: what it was given; `handle`: what it does with them."""

    address: str = ""
    events: list[WebhookEvent] = attrs.field(factory=list)
    handle: Callable[[WebhookEvent], Awaitable[object]] | None = None
    arrived: asyncio.Event = attrs.field(factory=asyncio.Event)
    session: ClientSession = attrs.field(factory=ClientSession)

    async def take(self, event: WebhookEvent) -> None:
        self.events.append(event)
        self.arrived.set()
        if self.handle is not None:
            await self.handle(event)

    async def count(self, number: int) -> None:
        """Wait for so many events."""
        while len(self.events) < number:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 5)

    async def post(self, body: Any, path: str = "", **headers: str) -> int:
        """Send it; the status of the answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = io.BytesIO(body) if isinstance(body, bytes) else body
        async with self.session.post(f"{self.address}{path}", data=data, headers=named) as response:
            return response.status

    async def send(self, body: bytes, path: str = "") -> int:
        """As Tribe does it."""
        return await self.post(body, path, **{HEADER: signature(body)})


@asynccontextmanager
async def receiving(path: str = "/hook", **options: Any) -> AsyncIterator[Receiver]:
    app, receiver = web.Application(), Receiver()
    tribe_web.webhooks(app, path, receiver.take, **{"verify": Signature(HEADER, SECRET)} | options)
    async with receiver.session, served(app, lingering_time=0.1) as address:
        receiver.address = f"{address}{path.partition('{')[0]}"
        yield receiver


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"kind": "EntityCreationMutation", "entityId": ANNA}, (Change.CREATED, ANNA, None)),
        ({"@type": "nl.tribecrm.EntityUpdateMutation", "entityId": ANNA}, (Change.UPDATED, ANNA, None)),
        ({"EntityDeletionMutation": {"entityId": ANNA}}, (Change.DELETED, ANNA, None)),
        ({"x": "RelationshipCreationMutation", "relationshipId": "1"}, (Change.CREATED, None, "1")),
        ({"x": 7, "RelationshipUpdateMutation": {"relationshipId": "1"}}, (Change.UPDATED, None, "1")),
        ({"x": "#RelationshipDeletionMutation", "relationshipId": "1"}, (Change.DELETED, None, "1")),
        ({"x": "of another kind", "entityId": ANNA}, (None, ANNA, None)),
        ({"entityId": 7}, (None, None, None)),
    ],
)
async def test_an_event(payload: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """What is documented is read, wherever the kind stands; what is not is left in the payload."""
    async with receiving() as receiver:
        assert await receiver.send(json.dumps({"webhookId": "hook-1", "payload": payload}).encode()) == 200
        await receiver.count(1)
    (event,) = receiver.events
    assert (event.change, event.entity_id, event.relationship_id) == expected
    assert (event.webhook_id, event.payload) == ("hook-1", payload)
    assert "payload" not in repr(event)  # it is personal data


@pytest.mark.parametrize("body", [b"{}", b'{"webhookId": 7, "payload": []}', b'{"payload": null}'])
async def test_a_genuine_message_of_a_form_that_is_not_known(body: bytes) -> None:
    """It is a hint, too."""
    async with receiving() as receiver:
        assert await receiver.send(body) == 200
        await receiver.count(1)
    assert receiver.events[0].change is None
    assert receiver.events[0].payload == json.loads(body)


@pytest.mark.parametrize("body", [b"", b"hello", b"[1]", b"\xff", b"[" * 100_000])
async def test_a_genuine_message_that_is_no_json_object(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing can be done with it, and the log says so."""
    async with receiving() as receiver:
        assert await receiver.send(body) == 400
    assert "no JSON object" in caplog.text
    assert receiver.events == []


def forgeries(body: bytes) -> list[dict[str, str]]:
    """Headers that are not those of this body."""
    true = signature(body)
    digest = hmac.digest(SECRET.encode(), body, "sha512")
    return [
        {},
        {"X-Other": true},
        {HEADER: ""},
        {HEADER: signature(body, "another secret")},
        {HEADER: signature(body + b" ")},
        {HEADER: signature(body, kind="sha256")},
        {HEADER: digest.hex()},
        {HEADER: base64.b64encode(digest.hex().encode()).decode()},
        {HEADER: base64.b64encode(hashlib.sha512(body).digest()).decode()},
        {HEADER: true[:-4]},
        {HEADER: true + true},
        {HEADER: f"sha512={true}"},
        {HEADER: "ü" * 88},
        {HEADER: base64.b64encode(digest[:-1] + bytes([digest[-1] ^ 1])).decode()},
    ]


@pytest.mark.parametrize("number", range(14))
async def test_a_forgery(number: int, caplog: pytest.LogCaptureFixture) -> None:
    """Is refused; the log has the names of its headers, and none of their values."""
    body = message()
    headers = forgeries(body)[number]
    async with receiving() as receiver:
        assert await receiver.post(body, **headers) == 401
    assert receiver.events == []
    assert "verify() does not accept it. It has these headers: Host" in caplog.text
    assert not any(len(value) > 8 and value in caplog.text for value in headers.values())


async def test_two_signatures() -> None:
    """Of which one is right: no honest sender does that."""
    body = message()
    async with receiving() as receiver:
        headers = [(HEADER, signature(body)), (HEADER, "x")]
        async with receiver.session.post(receiver.address, data=body, headers=headers) as response:
            assert response.status == 401
    assert receiver.events == []


async def test_several_webhooks() -> None:
    """Each has a secret of its own."""
    async with receiving(verify=Signature(HEADER.lower(), "first", Secret(SECRET))) as receiver:
        assert await receiver.send(message()) == 200
        assert await receiver.post(message(), **{HEADER: signature(message(), "first")}) == 200
        assert await receiver.post(message(), **{HEADER: signature(message(), "third")}) == 401


async def test_the_path_says_whose_it_is() -> None:
    """A function of one's own that looks the secret up: one organization's secret is not good for another's path."""
    secrets = {"acme": SECRET, "beta": "another"}

    async def verify(request: web.Request, body: bytes) -> bool:
        return Signature(HEADER, secrets[request.match_info["organization"]])(request, body)

    async with receiving("/hook/{organization}", verify=verify) as receiver:
        assert [await receiver.send(message(), organization) for organization in secrets] == [200, 401]
        await receiver.count(1)
    assert receiver.events[0].path == {"organization": "acme"}


@pytest.mark.parametrize("found", [1, "yes", None, 0])
async def test_only_true_is_true(found: Any) -> None:
    """A function that returns the digest accepts nothing."""
    async with receiving(verify=lambda request, body: found) as receiver:
        assert await receiver.send(message()) == 401


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 2**16):
        yield b"x" * 2**16


@pytest.mark.parametrize("body", [b"x" * 10_000_000, chunks(10_000_000)], ids=["announced", "in chunks"])
async def test_ten_megabytes(body: Any) -> None:
    """No more than a megabyte is read of it."""
    async with receiving() as receiver:
        with suppress(ClientError):  # the sender may be cut off in the middle
            assert await receiver.post(body, **{HEADER: "x"}) == 413
        assert await receiver.send(message()) == 200
        large = message(text="x" * 2**20)
        assert await receiver.send(large) == 413
    async with receiving(max_bytes=2**21) as receiver:
        assert await receiver.send(large) == 200


async def test_a_compressed_body() -> None:
    """The signature is of the bytes that were sent: it is refused before anything is unpacked."""
    body = gzip.compress(message())
    async with receiving() as receiver:
        assert await receiver.post(body, Content_Encoding="gzip", **{HEADER: signature(body)}) == 415


async def test_a_body_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not waited for, for long."""
    monkeypatch.setattr(_webhooks, "PATIENCE", 0.05)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with receiving() as receiver:
        assert await receiver.post(never(), **{HEADER: "x"}) == 408


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [(b"Content-Length: 100\r\n\r\n{", b""), (b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"no number\r\n")],
)
async def test_a_body_that_breaks_off(begins: bytes, goes_on: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing comes of it, and no traceback of ours either."""
    async with receiving() as receiver:
        url = re.match(r"http://([^:]+):(\d+)(.*)", receiver.address)
        assert url is not None
        _reader, writer = await asyncio.open_connection(url[1], int(url[2]))
        writer.write(f"POST {url[3]} HTTP/1.1\r\nHost: x\r\n".encode() + begins)
        await asyncio.sleep(0.01)
        writer.write(goes_on)
        await asyncio.sleep(0.01)
        writer.transport.abort()
        assert await receiver.send(message()) == 200
        await receiver.count(1)
    assert len(receiver.events) == 1
    assert "_webhooks.py" not in caplog.text


async def test_other_methods() -> None:
    """Are none of a webhook."""
    async with receiving() as receiver, receiver.session.get(receiver.address) as response:
        assert response.status == 405


# What is done with it


async def test_the_sender_does_not_wait(caplog: pytest.LogCaptureFixture) -> None:
    """The answer comes before the handler has begun; what it raises is logged, and the next event is handled."""
    released, ended = asyncio.Event(), 0

    async def handle(event: WebhookEvent) -> None:
        nonlocal ended
        await released.wait()
        ended += 1
        if event.entity_id == "1":
            raise KeyError("of the handler")
        if event.entity_id == "2":
            raise asyncio.CancelledError

    async with receiving(at_once=1) as receiver:
        receiver.handle = handle
        assert [await receiver.send(message(str(number))) for number in range(1, 5)] == [200] * 4
        assert ended == 0
        released.set()
        await receiver.count(4)
    assert ended == 4
    assert len(re.findall("an event of a webhook could not be handled", caplog.text)) == 2
    assert "KeyError('of the handler')" in caplog.text


async def test_those_of_one_entity_come_one_after_the_other() -> None:
    """An older read must not end after a newer one; others are handled meanwhile."""
    at_work: set[str | None] = set()
    most, released = 0, asyncio.Event()

    async def handle(event: WebhookEvent) -> None:
        nonlocal most
        assert event.entity_id not in at_work
        at_work.add(event.entity_id)
        most = max(most, len(at_work))
        await released.wait()
        at_work.discard(event.entity_id)

    async with receiving(at_once=50) as receiver:
        receiver.handle = handle
        for change in ("Creation", "Update", "Deletion"):
            for number in range(10):
                await receiver.send(message(str(number), change))
        released.set()
        await receiver.count(30)
    assert most > 3


async def test_the_same_once_more() -> None:
    """What still waits is not handled twice; what was begun is."""
    released = asyncio.Event()

    async def handle(event: WebhookEvent) -> None:
        await released.wait()

    async with receiving() as receiver:
        receiver.handle = handle
        await receiver.send(message(stamp=0))
        await receiver.count(1)
        for stamp in range(1, 10):
            await receiver.send(message(stamp=stamp))
        released.set()
        await receiver.count(2)
        for unknown in (b'{"a": 1}', b'{"a": 1}', b'{"a": 2}'):
            await receiver.send(unknown)
    assert [event.payload.get("stamp") for event in receiver.events[:2]] == [0, 9]
    assert len(receiver.events) >= 4


async def test_more_than_may_wait(caplog: pytest.LogCaptureFixture) -> None:
    """The sender is told to come again; the same as one that waits takes no room."""
    released = asyncio.Event()

    async def handle(event: WebhookEvent) -> None:
        await released.wait()

    async with receiving(at_once=1, waiting=2) as receiver:
        receiver.handle = handle
        await receiver.send(message("0"))
        await receiver.count(1)
        assert [await receiver.send(message(key)) for key in ("1", "2", "3", "2")] == [200, 200, 503, 200]
        released.set()
        await receiver.count(3)
        assert await receiver.send(message("3")) == 200
    assert "2 events wait already" in caplog.text


async def test_the_end_of_the_application(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What waits is handled, for so long; then it is given up, and the log says how much that was."""
    monkeypatch.setattr(_waiting, "GRACE", 0.05)
    cancelled = []

    async def handle(event: WebhookEvent) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(event.entity_id)

    with caplog.at_level(logging.WARNING):
        async with receiving(at_once=1) as receiver:
            receiver.handle = handle
            for key in "123":
                await receiver.send(message(key))
            await receiver.count(1)
    assert (cancelled, len(receiver.events)) == (["1"], 1)
    assert "3 events of webhooks were given up at the end" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"verify": None}, "verify is a Signature"),
        ({"max_bytes": 0}, "max_bytes is a whole number"),
        ({"at_once": "10"}, "at_once is a whole number"),
        ({"waiting": -1}, "waiting is a whole number"),
    ],
)
def test_mistakes(wrong: dict[str, Any], words: str) -> None:
    """Are told when the application is made."""
    options = {"verify": Signature(HEADER, SECRET)} | wrong

    async def handle(event: WebhookEvent) -> None:
        raise AssertionError

    with pytest.raises(ConfigurationError, match=words):
        tribe_web.webhooks(web.Application(), "/hook", handle, **options)


@pytest.mark.parametrize(
    "arguments",
    [("X Y", "s"), ("", "s"), (None, "s"), (HEADER,), (HEADER, ""), (HEADER, "s", None), (HEADER, Secret(""))],
)
def test_a_signature_of_nothing(arguments: Any) -> None:
    """An empty secret would accept what everybody can sign."""
    with pytest.raises(ConfigurationError):
        Signature(*arguments)


@attrs.define
class Story:
    """Changes of 1,000 entities, and the messages about them: some twice, some lost, among forgeries, in any order."""

    chance: random.Random
    truth: dict[str, int] = attrs.field(factory=dict)
    mirror: dict[str, int] = attrs.field(factory=dict)
    changes: list[tuple[str, int | None]] = attrs.field(factory=list)
    messages: list[tuple[bool, bytes, dict[str, str]]] = attrs.field(factory=list)
    statuses: dict[bool, list[int]] = attrs.field(factory=lambda: {True: [], False: []})

    def __attrs_post_init__(self) -> None:
        for number in range(7_000):
            self._change(self._key(), None if self.chance.random() < 0.2 else number)
        while len(self.messages) < 9_998:
            body = message(self._key(), "Deletion")
            self.messages.append((False, body, self.chance.choice(forgeries(body))))
        self.messages += [(False, b"x" * 10_000_000, {HEADER: "x"})] * 2
        self.chance.shuffle(self.messages)

    def _key(self) -> str:
        return str(UUID(int=self.chance.randrange(1_000)))

    def _change(self, key: str, value: int | None) -> None:
        self.changes.append((key, value))
        kind = "Deletion" if value is None else self.chance.choice(["Update", "Creation"])
        body = message(key, kind, number=value)
        times = self.chance.choices([0, 1, 2, 3], [5, 80, 10, 5])[0]
        self.messages += [(True, body, {HEADER: signature(body)})] * times

    def go_on(self) -> None:
        """The next change happens."""
        if self.changes:
            self._copy(self.truth, *self.changes.pop(0))

    async def handle(self, event: WebhookEvent) -> None:
        """Read again what the hint is about; now and then the API is away."""
        await asyncio.sleep(0)
        if self.chance.random() < 0.01:
            raise RuntimeError("the API is away")
        assert event.entity_id is not None
        self._copy(self.mirror, event.entity_id, self.truth.get(event.entity_id))

    @staticmethod
    def _copy(rows: dict[str, int], key: str, value: int | None) -> None:
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value

    async def send(self, receiver: Receiver) -> None:
        """Until there are no more."""
        while self.messages:
            self.go_on()
            genuine, body, headers = self.messages.pop()
            try:
                status = await receiver.post(body, **headers)
            except ClientError:  # the rest of a large one was not taken
                status = 413
            self.statuses[genuine].append(status)

    def wrong(self) -> int:
        """Rows of the mirror that are not as they should be."""
        return len(self.mirror.items() ^ self.truth.items())


async def test_ten_thousand_messages(caplog: pytest.LogCaptureFixture) -> None:
    """No forgery is accepted, no true one is refused; beside hints, a periodic read makes a mirror right."""
    story = Story(random.Random(17))
    with caplog.at_level(logging.CRITICAL, "tribe_oauth.web.webhooks"):
        async with receiving() as receiver:
            receiver.handle = story.handle
            await asyncio.gather(*(story.send(receiver) for _ in range(20)))
    genuine, forged = story.statuses[True], story.statuses[False]
    assert len(genuine) + len(forged) == 10_000
    assert set(genuine) == {200}
    assert set(forged) == {401, 413}
    assert len(receiver.events) <= len(genuine)
    told = story.wrong()
    story.mirror = dict(story.truth)
    assert story.wrong() == 0
    print(  # noqa: T201 (the figures of the show)
        f"\n10,000 messages: {len(genuine)} genuine ones, all accepted; {len(forged)} forged ones, none;"
        f" {len(receiver.events)} events handled; {told} rows wrong by hints alone"
    )
