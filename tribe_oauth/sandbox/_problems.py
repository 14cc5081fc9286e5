"""What the API answers where it refuses, in each of the forms that it may have. May be imported by all of its rooms."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import formatdate
from html import escape
from http import HTTPStatus
from typing import Any

from aiohttp import web

from tribe_oauth.sandbox._rules import ApiRules

JSON = {"Content-Type": "application/json;odata.metadata=minimal", "OData-Version": "4.0"}


class ProblemError(Exception):
    """A request is refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def answer(body: object, status: int = 200) -> web.Response:
    """An answer in JSON."""
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return web.Response(body=content, status=status, headers=JSON)


def refusal(problem: ProblemError, rules: ApiRules, path: str, now: float) -> web.Response:
    """An error (OData JSON Format 4.0 §19), its `code` null; or what stands before the service says."""
    status = problem.status
    match rules.errors:
        case "olingo":
            return answer({"error": {"code": None, "message": problem.message}}, status)
        case "spring":
            at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
            said = {"timestamp": at, "status": status, "error": HTTPStatus(status).phrase, "path": path}
            return web.json_response(said, status=status)
        case "html":
            return _html(status)
    return web.Response(status=status)


def unauthorized(rules: ApiRules, *, presented: bool) -> web.Response:
    """A 401. `presented`: there was a token."""
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"' if presented else "Bearer"}
    body: dict[str, Any] = {}
    if rules.unauthorized == "json":
        body = {"text": '{"error":"invalid_token"}', "content_type": "application/json"}
    elif rules.unauthorized == "html":
        body = {"text": "<html><h1>401 Unauthorized</h1></html>", "content_type": "text/html"}
    return web.Response(status=401, headers=headers, **body)


def limited(rules: ApiRules, status: int, now: float, *, free_at: float) -> web.Response:
    """A 429, or the 403 of who is blocked. `free_at`: when a call is free again."""
    wait = max(0, int(free_at - now) + 1)
    hint = {
        "absent": {},
        "seconds": {"Retry-After": str(wait)},
        "date": {"Retry-After": formatdate(now + wait, usegmt=True)},
    }
    response = _html(status)
    response.headers.update(hint[rules.retry_after])
    return response


def _html(status: int) -> web.Response:
    text = f"<html><h1>{status} {escape(HTTPStatus(status).phrase)}</h1></html>"
    return web.Response(text=text, status=status, content_type="text/html")
