"""Tribe's OData API (OData 4.0): pages, rows, and what is written. Works with any `ClientSession`; it has the tokens.

The session's base URL has to be the API's origin, as it is for the sessions of a `TokenManager`.
"""

from tribe_oauth.odata._answer import ODataError
from tribe_oauth.odata._body import File
from tribe_oauth.odata._files import Download, download, upload
from tribe_oauth.odata._functions import call
from tribe_oauth.odata._identity import Organization, own_organization
from tribe_oauth.odata._json import Number
from tribe_oauth.odata._pages import Page, pages
from tribe_oauth.odata._query import Query, literal
from tribe_oauth.odata._rows import rows
from tribe_oauth.odata._single import count, entity, metadata
from tribe_oauth.odata._writes import UnknownOutcomeError, create, delete, link, update

__all__ = [
    "Download",
    "File",
    "Number",
    "ODataError",
    "Organization",
    "Page",
    "Query",
    "UnknownOutcomeError",
    "call",
    "count",
    "create",
    "delete",
    "download",
    "entity",
    "link",
    "literal",
    "metadata",
    "own_organization",
    "pages",
    "rows",
    "update",
    "upload",
]
