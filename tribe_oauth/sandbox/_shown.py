"""How entities stand in an answer: the properties that were selected, what is expanded, and control information.

Imported by `_odata` and by whoever answers with an entity.
"""

from __future__ import annotations

import base64
from typing import Any

from attrs import frozen

from tribe_oauth.sandbox._data import Data
from tribe_oauth.sandbox._generated import Row
from tribe_oauth.sandbox._model import BY_TYPE
from tribe_oauth.sandbox._query import Query, Shape
from tribe_oauth.sandbox._rules import ApiRules


@frozen
class Shown:
    """Makes answers. `root`: the URL of the service, with a slash at its end."""

    rules: ApiRules
    root: str

    def entity(self, data: Data, row: Row, shape: Shape) -> dict[str, Any]:
        """One entity. Its ID comes always; without having been selected, it comes with an `@odata.id`."""
        own = BY_TYPE[row["_Type"]]
        names = shape.select
        if not names:
            of = own if self.rules.base_rows == "all" else shape.entity_set
            shown: dict[str, Any] = dict(row) if of is own else {name: row[name] for name in of.kinds}
        else:
            shown = {name: row[name] for name in names}
            if shape.keyless and self.rules.odata_id:
                shown = {"@odata.id": f"{shape.entity_set.name}({row['ID']})", **shown}
        for name, inner in shape.expand:
            shown[name] = self._expanded(data, row, name, inner)
        return shown

    def _expanded(self, data: Data, row: Row, name: str, shape: Shape) -> Any:
        own = BY_TYPE[row["_Type"]]
        if name in own.files:
            return self._file(data, row, name, shape)
        there = data.follow(row, name)
        if isinstance(there, list):
            return [self.entity(data, each, shape) for each in there[: self.rules.expand_cut]]
        return None if there is None else self.entity(data, there, shape)

    def _file(self, data: Data, row: Row, name: str, shape: Shape) -> dict[str, Any] | None:
        """A file as JSON; its content only where it was selected."""
        file = data.file(row, name)
        if file is None:
            return None
        said = {"Name": file.name, "MimeType": file.mime_type, "Url": self.url_of(row, name)}
        if "Data" in shape.select:
            said["Data"] = base64.b64encode(file.content).decode()
        return {key: value for key, value in said.items() if not shape.select or key in shape.select}

    def url_of(self, row: Row, name: str) -> str:
        """Where the bytes of a file are."""
        return f"{self.root.removesuffix('odata/')}odata-file/{BY_TYPE[row['_Type']].name}/{row['ID']}/{name}"

    def context(self, shape: Shape, *, entity: bool = False) -> dict[str, str]:
        """What an answer begins with."""
        end = "/$entity" if entity else ""
        match self.rules.context:
            case "type":
                return {"@odata.context": f"$metadata#OData.{shape.entity_set.name}{end}"}
            case "standard":
                return {"@odata.context": f"{self.root}$metadata#{shape.entity_set.name}{_names(shape)}{end}"}
        return {}

    def collection(self, data: Data, query: Query, rows: list[Row], total: int, link: str | None) -> dict[str, Any]:
        """A page of a collection."""
        shape = query.shape
        return {
            **self.context(shape),
            **({"@odata.count": total} if query.count else {}),
            "value": [self.entity(data, row, shape) for row in rows],
            **({} if link is None else {"@odata.nextLink": f"{self.root}{shape.entity_set.name}?{link}"}),
        }


def _names(shape: Shape) -> str:
    """The names of what is selected and expanded, as OData's standard has them."""
    names = [*shape.select, *(f"{name}{_names(nested) or '()'}" for name, nested in shape.expand)]
    return f"({','.join(names)})" if names else ""
