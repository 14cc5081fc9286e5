"""The next page's URL, checked: it has to be the API's own, since the session's token goes with the request.

Imported by `_pages`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from yarl import URL

from tribe_oauth.odata._answer import Answer, ODataError
from tribe_oauth.odata._query import SERVICE_ROOT

_VISIBLE: Final = re.compile(r"[!-\[\]-~]+")  # RFC 3986 §2; without the backslash, which some take for a slash
_ODD: Final = re.compile("[\x00-\x1f\x7f]|%(2[ef5]|5c)", re.IGNORECASE)


def next_url(answer: Answer) -> URL | None:
    """The URL of the page after an answer; None where it has no link. Raises ODataError."""
    link, context, asked = answer.next_link, answer.context, answer.asked
    if link is None:
        return None
    try:
        base = _base(asked.with_query(None), context) if isinstance(context, str) else asked
        url = base.join(verbatim(link)).with_fragment(None)
        if _origin(url) == _origin(asked) and "@" not in url.raw_authority and is_below_root(url.path):
            if url == asked:
                raise ODataError("@odata.nextLink leads to a page that was read already")
            return url
    except ValueError:
        pass
    raise ODataError(f"@odata.nextLink leads out of the API's {SERVICE_ROOT}: it is not followed")


def verbatim(link: object) -> URL:
    """The link without re-encoding: a server may compare it with the one that it sent. Raises ValueError."""
    if not isinstance(link, str) or not _VISIBLE.fullmatch(link):
        raise ValueError
    return URL(link, encoded=True)


@lru_cache(maxsize=64)  # the same for every page of a read
def _base(asked: URL, context: str) -> URL:
    """The service root, which a context URL begins with (OData Protocol 4.0 §10)."""
    return asked.join(verbatim(context.partition("$metadata")[0] or "."))


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host and url.host.lower(), url.port


@lru_cache(maxsize=64)  # the same, too
def is_below_root(path: str, root: str = SERVICE_ROOT) -> bool:
    """Whether a decoded path stays below the service root, or another one, in every way that servers read paths.

    Some cut a segment at its ``;``, some take a backslash for a slash, and some decode twice.
    """
    segments = {segment.partition(";")[0] for segment in re.split(r"[/\\]", path)}
    return path.startswith(root) and not {".", ".."} & segments and not _ODD.search(path)
