"""Pages and rows of Tribe's OData API (OData 4.0). Knows sessions, not tokens: any `ClientSession` will do.

The session has to have the API's origin as its base URL, as those of a `TokenManager` have.
"""

from tribe_oauth.odata._answer import ODataError
from tribe_oauth.odata._pages import Page, pages
from tribe_oauth.odata._query import Query, literal
from tribe_oauth.odata._rows import rows

__all__ = ["ODataError", "Page", "Query", "literal", "pages", "rows"]
