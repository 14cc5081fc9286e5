"""`error_middleware` turns the library's errors into answers, for an application's own handlers.

An answer says what the one who asked can know: nothing of a server's words, of a secret, of another tenant.
"""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from tribe_oauth import (
    CallbackError,
    ReauthorizationRequired,
    TokenEndpointError,
    TribeOAuthError,
    UnknownOrganizationError,
)
from tribe_oauth.errors import ConfigurationError, ManagerError
from tribe_oauth.odata import ODataError
from tribe_oauth.odata._retries import asked_pause
from tribe_oauth.web._site import SITE, see_other

logger = logging.getLogger("tribe_oauth.web.errors")

Way = web.StreamResponse | str | URL
Reconnect = Callable[[web.Request, str], Way | Awaitable[Way]]

SOON: Final = 5.0
"""Seconds until a customer may try again, where nothing says when it helps."""
_NOT_CONNECTED: Final = "This organization is not connected."
_CONNECT_AGAIN: Final = "This organization has to be connected again."
_NOT_ALLOWED: Final = "Access was not allowed in Tribe CRM, or this page was loaded twice. Please start again."
_FORBIDDEN: Final = "This organization does not allow it."
_NOT_THERE: Final = "There is no such thing in Tribe CRM."
_NOT_NOW: Final = "This does not work at the moment. Please try again in a minute."
_WRONG: Final = (
    "This does not work, and trying again will probably not help. The people who run this application find the reason"
    " in its log."
)


def error_middleware(*, reconnect: Reconnect | None = None) -> Middleware:
    """A middleware for applications that use Tribe in their handlers: ``web.Application(middlewares=[…])``.

    Of an error of the library, a handler's caller is told this:

        404  an organization that is not connected, or is another tenant's; what the API does not have
        403  an organization that has to be connected again, where there is no `reconnect`; what the API forbids
        502  Tribe refuses otherwise: the log says why, and trying again does not help
        503  not now: with ``Retry-After``, in seconds

    `reconnect` is given the request and the organization, as the request's tenant names it, and returns where to send
    the browser (a path or URL, 303), or a response of your own; it may be a coroutine function. It is not asked where
    the organization is not the tenant's: that is a 502.

    They are raised as aiohttp's `web.HTTPException`, so that what your application has for those, such as pages, does
    the rest. ConfigurationError is left alone: aiohttp logs it and answers 500; so is any error after the answer has
    begun, since nothing else can be said then.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ConfigurationError:
            raise
        except TribeOAuthError as error:
            if request.writer.output_size:
                raise  # the connection is aborted, so that nobody takes a half for the whole
            answer = await _reconnecting(request, error, reconnect) or _answer(error)
        if isinstance(answer, web.HTTPException):
            raise answer
        return answer

    return middleware


async def _reconnecting(
    request: web.Request, error: TribeOAuthError, reconnect: Reconnect | None
) -> web.StreamResponse | None:
    """The way to connect the organization again, where it is the caller's to go."""
    if not isinstance(error, ReauthorizationRequired) or reconnect is None or error.organization is None:
        return None
    site = request.config_dict.get(SITE)
    prefix = "" if site is None else await site.prefix(request)
    if not error.organization.startswith(prefix):
        return _answer(TribeOAuthError(str(error)))
    way = reconnect(request, error.organization.removeprefix(prefix))
    if inspect.isawaitable(way):
        way = await way
    return see_other(str(way)) if isinstance(way, str | URL) else way


def _answer(error: TribeOAuthError) -> web.HTTPException:
    """What a handler's caller is told, and the log."""
    match error:
        case UnknownOrganizationError():
            return web.HTTPNotFound(text=_NOT_CONNECTED)
        case ReauthorizationRequired():
            return web.HTTPForbidden(text=_CONNECT_AGAIN)
        case CallbackError():
            return web.HTTPForbidden(text=_NOT_ALLOWED)
        case ODataError(status=404 | 410):
            return web.HTTPNotFound(text=_NOT_THERE)
        case ODataError(status=403):
            return web.HTTPForbidden(text=_FORBIDDEN)
    if error.retryable or isinstance(error, ManagerError):  # closing: its worker ends, and the next one answers
        logger.warning("not now: %s", error)
        return web.HTTPServiceUnavailable(text=_NOT_NOW, headers={"Retry-After": str(_retry_after(error))})
    logger.error("a request to Tribe failed: %s", error)
    return web.HTTPBadGateway(text=_WRONG)


def _retry_after(error: TribeOAuthError) -> int:
    """Whole seconds, at least one (RFC 9110 §10.2.3)."""
    match error:
        case ODataError():
            left = asked_pause(error)
        case TokenEndpointError(next_attempt_at=at) if at is not None:
            left = at - time.time()
        case _:
            left = None
    return max(1, math.ceil(SOON if left is None else left))
