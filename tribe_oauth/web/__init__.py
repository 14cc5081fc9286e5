"""Organizations connect themselves: consent, callback and a connections page for an aiohttp.web application.

    tribe_web.setup(app, manager, authorize=account)

adds pages beside the path of the client's redirect URI; for ``https://app.example/tribe/callback``:

    /tribe/connect       sends the browser to Tribe; ?organization= pins one by its id, ?next= names the path afterwards
    /tribe/callback      takes the answer
    /tribe/connections   the connected organizations and their state; reconnect, refresh, disconnect
    /tribe/outcome/...   the result, in words for customers

    tribe_web.webhooks(app, "/tribe/webhooks", handle, verify=tribe_web.Signature("X-Signature", secret))

receives webhooks.

The manager runs with the application. Handlers use `session` and `organizations`; `error_middleware` turns the errors
that come out of them into answers.
"""

from tribe_oauth.web._errors import error_middleware
from tribe_oauth.web._events import Change, WebhookEvent
from tribe_oauth.web._log import HideCallbacks
from tribe_oauth.web._organization import organization_id
from tribe_oauth.web._outcome import Outcome
from tribe_oauth.web._pages import Connection, Connections, Links, Pages
from tribe_oauth.web._setup import MANAGER, organizations, session, setup
from tribe_oauth.web._signature import Signature
from tribe_oauth.web._webhooks import webhooks

__all__ = [
    "MANAGER",
    "Change",
    "Connection",
    "Connections",
    "HideCallbacks",
    "Links",
    "Outcome",
    "Pages",
    "Signature",
    "WebhookEvent",
    "error_middleware",
    "organization_id",
    "organizations",
    "session",
    "setup",
    "webhooks",
]
