"""A proxy that the caller names. Its credentials are kept apart from its address, which errors and logs show.

Imported by `endpoint`, and by `_manager`, which opens the other sessions. The environment's own proxies
are not used: they may be meant for other programs, and a token request would pass through them.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Self

import attrs
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs
from yarl import URL

from tribe_oauth._oauth.values import Secret
from tribe_oauth._redaction import Hidden
from tribe_oauth.errors import ConfigurationError


@attrs.frozen(eq=False, repr=False)
class Proxy:
    """`url`: to be the session's proxy. It is a client middleware as well, which adds the credentials."""

    url: URL
    credentials: Hidden | None

    @classmethod
    def at(cls, address: str | Secret | None) -> Self | None:
        """The proxy at ``http://[user:password@]host[:port]``, or https. Raises ConfigurationError, without it."""
        if address is None:
            return None
        try:
            url = URL(address.reveal() if isinstance(address, Secret) else address)
        except (TypeError, ValueError):
            url = URL()
        if url.scheme not in {"http", "https"} or not url.host:
            raise ConfigurationError(
                "proxy (TRIBE_PROXY) is no URL of an HTTP proxy: give one as in http://proxy.example:3128; for another"
                " kind, such as SOCKS, pass a connector that knows it"
            )
        named = f"{url.user}:{url.password or ''}".encode()  # RFC 7617 §2
        credentials = None if url.user is None else Hidden(f"Basic {b64encode(named).decode()}")
        return cls(url.origin(), credentials)

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """See aiohttp's `ClientMiddlewareType`."""
        if self.credentials is not None and request.proxy == self.url:
            if request.is_ssl():  # said to the proxy when the tunnel is asked for, and to nobody behind it
                request.update_proxy(self.url, None, {hdrs.PROXY_AUTHORIZATION: self.credentials})
            else:
                request.headers[hdrs.PROXY_AUTHORIZATION] = self.credentials
        return await handler(request)
