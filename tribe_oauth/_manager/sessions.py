"""The sessions for Tribe's API and the connector that they share."""

from __future__ import annotations

from contextlib import AsyncExitStack
from weakref import WeakSet

from aiohttp import (
    BaseConnector,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ServerDisconnectedError,
    TCPConnector,
)
from aiohttp.connector import Connection
from yarl import URL

from tribe_oauth._limit.reservation import register
from tribe_oauth._manager.middleware import BearerMiddleware
from tribe_oauth._oauth.proxy import Proxy


class CleanRequest(ClientRequest):
    """Refuses a kept connection on which something came before anything was asked.

    A stray second answer of a server or a proxy would be taken for the answer to this request, and give one
    organization's rows to another. aiohttp sends again, on another connection, what may be sent again.
    """

    async def send(self, conn: Connection) -> ClientResponse:
        """See aiohttp."""
        if conn.protocol is not None and conn.protocol.should_close:
            conn.close()
            raise ServerDisconnectedError("the connection was not clean: nothing was sent")
        return await super().send(conn)


class Sessions:
    """Opens sessions at the API's origin, and closes what is still open, but for a connector that was given.

    `origin`: the one that may see tokens.
    """

    def __init__(self, api: str, connector: BaseConnector | None, proxy: Proxy | None) -> None:
        self.origin = URL(api).origin()
        self._proxy = proxy
        self._api = api
        self._given = connector
        self.forget_loop()

    def forget_loop(self) -> None:
        """Begin anew for another event loop: what belonged to the one before cannot be closed any more."""
        self._connector = self._given
        self._open: WeakSet[ClientSession] = WeakSet()

    def open(self, middleware: BearerMiddleware | None) -> ClientSession:
        """A session with this middleware, whose calls can be reserved; None: its requests carry no token.

        Relative URLs begin at the API's origin.
        """
        if self._connector is None:
            self._connector = TCPConnector()
        session = ClientSession(
            self._api,
            connector=self._connector,
            connector_owner=False,
            middlewares=[each for each in (middleware, self._proxy) if each is not None],
            proxy=None if self._proxy is None else self._proxy.url,
            request_class=CleanRequest,
        )
        self._open.add(session)
        if middleware is not None:
            register(session, middleware.calls)
        return session

    async def close(self) -> None:
        """Close all of them, and the connector where it is our own."""
        connector, self._connector = self._connector, self._given
        async with AsyncExitStack() as stack:
            if connector is not None and connector is not self._given:
                stack.push_async_callback(connector.close)
            for session in list(self._open):
                stack.push_async_callback(session.close)
