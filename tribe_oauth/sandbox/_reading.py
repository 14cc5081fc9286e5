"""What can be read below /v1/odata: sets, entities, links, the function, the metadata. Imported by `_odata`."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from attrs import define

from tribe_oauth.sandbox import _metadata
from tribe_oauth.sandbox._data import EMPLOYEE, Data
from tribe_oauth.sandbox._model import BY_TYPE, ENTITY_SETS
from tribe_oauth.sandbox._pages import Pages
from tribe_oauth.sandbox._paths import Place, is_guid, place_of
from tribe_oauth.sandbox._problems import ProblemError, answer
from tribe_oauth.sandbox._query import options_of, query_of, shape_of
from tribe_oauth.sandbox._rules import ApiRules
from tribe_oauth.sandbox._shown import Shown


@define(eq=False)
class Reading:
    """Answers GET requests."""

    rules: ApiRules
    pages: Pages

    def answer(self, data: Data, path: str, raw_query: str, shown: Shown) -> web.Response:
        """The answer for a path below the service root. Raises ProblemError."""
        options = options_of(raw_query)
        match path:
            case "":
                sets = [{"name": name, "kind": "EntitySet", "url": name} for name in ENTITY_SETS]
                return answer({"@odata.context": "$metadata", "value": sets})
            case "$metadata":
                if options.get("$format") == "json":
                    return answer(_metadata.as_json())
                return web.Response(body=_metadata.xml(), content_type="application/xml")
            case "GetCurrentEmployee()":
                shape = shape_of(ENTITY_SETS[EMPLOYEE], options.get("$select"), options.get("$expand"))
                return answer({**shown.context(shape, entity=True), **shown.entity(data, data.employee(), shape)})
            case "GetCurrentEmployee":
                raise ProblemError(400, "A function needs its parentheses")
        place = place_of(path, self.rules)
        if not place.guid:
            query = query_of(options, place.entity_set, data.follow, self.rules)
            page = self.pages.page(data, query, options)
            return answer(shown.collection(data, query, page.rows, page.total, page.next))
        return self._entity(data, place, options, shown)

    def file(self, data: Data, path: str) -> web.Response:
        """The bytes of a file: of an entity type, an ID and a property. Raises ProblemError."""
        parts = path.split("/")
        entity_set = BY_TYPE.get(parts[0]) or ENTITY_SETS.get(parts[0])
        if len(parts) != 3 or entity_set is None or not is_guid(parts[1]):
            raise ProblemError(404, "There is no such file")
        row = data.find(entity_set.name, parts[1].lower())
        found = None if row is None or parts[2] not in BY_TYPE[row["_Type"]].files else data.file(row, parts[2])
        if found is None:
            raise ProblemError(404, "There is no such file")
        return web.Response(body=found.content, headers={"Content-Type": found.mime_type})

    def _entity(self, data: Data, place: Place, options: dict[str, str], shown: Shown) -> web.Response:
        row: Any = data.find(place.entity_set.name, place.guid)
        if row is None:
            raise ProblemError(404, "There is no such entity")
        entity_set = place.entity_set
        if place.link:
            row, entity_set = data.follow(row, place.link), ENTITY_SETS[entity_set.links[place.link].target]
        query = query_of(options, entity_set, data.follow, self.rules)
        if isinstance(row, list):
            rows = self.pages.among(row, query)
            return answer(shown.collection(data, query, rows, len(row), None))
        if row is None:
            return web.Response(status=204)
        return answer({**shown.context(query.shape, entity=True), **shown.entity(data, row, query.shape)})
