"""The paths below the service root: an entity set, an entity by its key, what a link leads to."""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from tribe_oauth.sandbox._model import ENTITY_SETS, EntitySet
from tribe_oauth.sandbox._problems import ProblemError
from tribe_oauth.sandbox._rules import ApiRules

_GUID: Final = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_PATH: Final = re.compile(r"(?P<set>\w+)(?:\((?P<key>[^)]*)\))?(?:/(?P<link>[\w$]+))?")
_KEY: Final = re.compile(rf"(?:ID=)?({_GUID})")


@frozen
class Place:
    """What a path names. `guid` empty: the whole set. `link` empty: the entity itself."""

    entity_set: EntitySet
    guid: str = ""
    link: str = ""


def is_guid(text: str) -> bool:
    """Whether a text is an ID."""
    return _KEY.fullmatch(text) is not None and not text.startswith("ID=")


def place_of(path: str, rules: ApiRules) -> Place:
    """What a path names. Raises ProblemError."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise ProblemError(400, "The path cannot be read")
    if match["set"] not in ENTITY_SETS:
        raise ProblemError(rules.missing_set, f"Entity type not found: {match['set']}")
    entity_set = ENTITY_SETS[match["set"]]
    if match["link"] == "$count":
        raise ProblemError(501, "Not implemented")
    if match["key"] is None:
        if match["link"] is not None:
            raise ProblemError(404, "A navigation property belongs to one entity")
        return Place(entity_set)
    key = _KEY.fullmatch(match["key"])
    if key is None:
        raise ProblemError(400, f"The key {match['key']} is not of the type Edm.Guid")
    link = match["link"] or ""
    if link and link not in entity_set.links:
        raise ProblemError(404, f"{entity_set.name} has no navigation property {link}")
    return Place(entity_set, key[1].lower(), link)
