"""Pages and rows of Tribe's OData API (OData 4.0). Works with any `ClientSession`; tokens are the session's task.

The session's base URL has to be the API's origin, as it is for the sessions of a `TokenManager`.
"""

from tribe_oauth.odata._answer import ODataError
from tribe_oauth.odata._json import Number
from tribe_oauth.odata._pages import Page, pages
from tribe_oauth.odata._query import Query, literal
from tribe_oauth.odata._rows import rows
from tribe_oauth.odata._single import count, entity, metadata

__all__ = ["Number", "ODataError", "Page", "Query", "count", "entity", "literal", "metadata", "pages", "rows"]
