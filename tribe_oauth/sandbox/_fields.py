"""What may be written into the fields of an entity, and how it is kept. Imported by `_writing`."""

from __future__ import annotations

import base64
import re
from typing import Any, Final

from tribe_oauth.sandbox._literals import FilterError, Token, value_of
from tribe_oauth.sandbox._model import EntitySet, Kind
from tribe_oauth.sandbox._problems import ProblemError
from tribe_oauth.sandbox._rules import ApiRules
from tribe_oauth.sandbox._spelling import double
from tribe_oauth.sandbox._store import File

COMPUTED: Final = ("_Type", "_Name", "CreationDate", "LastMutationDate", "NumberOfNotes", "NumberOfAttachments")
"""Fields that the service writes; what a request says of them is passed over."""

_DATE: Final = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])")
_PYTHON: Final[dict[Kind, Any]] = {"double": int | float, "int": int, "boolean": bool}
_BEGINNINGS: Final = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "application/pdf": b"%PDF-",
    "application/zip": b"PK",
}


def fields_of(body: dict[str, Any], entity_set: EntitySet, rules: ApiRules) -> dict[str, Any]:
    """The properties in a body, as they are kept. Raises ProblemError."""
    known = {*entity_set.kinds, *entity_set.links, *entity_set.files, "_UpgradeType"}
    if unknown := body.keys() - known:
        raise ProblemError(400, f"{entity_set.name} has no property {min(unknown)!r}")
    names = [name for name in body if name in entity_set.kinds and name != "ID" and name not in COMPUTED]
    return {name: _kept(name, body[name], entity_set.kinds[name], rules) for name in names}


def _kept(name: str, value: Any, kind: Kind, rules: ApiRules) -> Any:
    if value is None:
        return None
    is_kind = isinstance(value, _PYTHON.get(kind, str)) and (kind == "boolean" or not isinstance(value, bool))
    if not is_kind or (kind == "date" and not _DATE.fullmatch(value)):
        raise _wrong(name, kind)
    if kind == "double":
        return double(value, rules)
    if kind == "stamp":
        try:
            return f"{value_of(Token('stamp', value))[1]}Z"
        except FilterError:
            raise _wrong(name, kind) from None
    return value


def _wrong(name: str, kind: Kind) -> ProblemError:
    return ProblemError(400, f"The value of {name} is not of the type Edm.{kind}")


def file_of(name: str, value: Any) -> File | None:
    """A file in a body: its content in base64, its type and its name. Raises ProblemError."""
    if value is None:
        return None
    if not isinstance(value, dict) or not all(
        isinstance(value.get(each), str) for each in ("Data", "MimeType", "Name")
    ):
        raise ProblemError(400, f"{name} needs Data, MimeType and Name")
    try:
        content = base64.b64decode(value["Data"], validate=True)
    except ValueError:
        raise ProblemError(400, f"The Data of {name} is not base64") from None
    if not content.startswith(_BEGINNINGS.get(value["MimeType"], b"")):
        raise ProblemError(400, f"The content of {name} is not {value['MimeType']}")
    return File(value["Name"], value["MimeType"], content)
