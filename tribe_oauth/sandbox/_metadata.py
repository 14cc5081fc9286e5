"""`$metadata`: the types of entities as CSDL, in XML and in JSON (OData CSDL 4.01). Imported by `_odata`."""

from __future__ import annotations

from functools import cache
from typing import Any, Final
from xml.etree import ElementTree as ET

from tribe_oauth.sandbox._model import ENTITY_SETS, EntitySet, Link

NAMESPACE: Final = "OData"

_EDMX: Final = "http://docs.oasis-open.org/odata/ns/edmx"
_EDM: Final = "http://docs.oasis-open.org/odata/ns/edm"
_TYPES: Final = {
    "string": "Edm.String",
    "guid": "Edm.Guid",
    "stamp": "Edm.DateTimeOffset",
    "date": "Edm.Date",
    "boolean": "Edm.Boolean",
    "double": "Edm.Double",
    "int": "Edm.Int32",
}
_FILE: Final = ("Name", "MimeType", "Url", "Data")


@cache
def xml() -> bytes:
    """As XML."""
    edmx = ET.Element("edmx:Edmx", {"Version": "4.0", "xmlns:edmx": _EDMX})
    schema = ET.SubElement(ET.SubElement(edmx, "edmx:DataServices"), "Schema", {"xmlns": _EDM, "Namespace": NAMESPACE})
    for entity_set in ENTITY_SETS.values():
        _type(schema, entity_set)
    file = ET.SubElement(schema, "ComplexType", {"Name": "File"})
    for name in _FILE:
        ET.SubElement(file, "Property", {"Name": name, "Type": "Edm.String"})
    function = ET.SubElement(schema, "Function", {"Name": "GetCurrentEmployee"})
    employee = f"{NAMESPACE}.Relationship_Person_Contact_Employee"
    ET.SubElement(function, "ReturnType", {"Type": employee, "Nullable": "false"})
    container = ET.SubElement(schema, "EntityContainer", {"Name": "Container"})
    for entity_set in ENTITY_SETS.values():
        _set(container, entity_set)
    said = {"Name": "GetCurrentEmployee", "Function": f"{NAMESPACE}.GetCurrentEmployee"}
    ET.SubElement(container, "FunctionImport", said)
    content: bytes = ET.tostring(edmx, encoding="utf-8", xml_declaration=True)
    return content


def _type(schema: ET.Element, entity_set: EntitySet) -> None:
    said = {"Name": entity_set.name}
    if entity_set.base is not None:
        said["BaseType"] = f"{NAMESPACE}.{entity_set.base.name}"
    if entity_set.abstract:
        said["Abstract"] = "true"
    made = ET.SubElement(schema, "EntityType", said)
    if entity_set.base is None:
        ET.SubElement(ET.SubElement(made, "Key"), "PropertyRef", {"Name": "ID"})
    for name, kind in entity_set.own.items():
        required = {"Nullable": "false"} if name == "ID" else {}
        ET.SubElement(made, "Property", {"Name": name, "Type": _TYPES[kind], **required})
    for name in entity_set.files:
        ET.SubElement(made, "Property", {"Name": name, "Type": f"{NAMESPACE}.File"})
    for name, link in entity_set.own_links.items():
        ET.SubElement(made, "NavigationProperty", {"Name": name, "Type": _leads_to(link)})


def _leads_to(link: Link) -> str:
    target = f"{NAMESPACE}.{link.target}"
    return f"Collection({target})" if link.many else target


def _set(container: ET.Element, entity_set: EntitySet) -> None:
    name = entity_set.name
    made = ET.SubElement(container, "EntitySet", {"Name": name, "EntityType": f"{NAMESPACE}.{name}"})
    for link, to in entity_set.links.items():
        ET.SubElement(made, "NavigationPropertyBinding", {"Path": link, "Target": to.target})


@cache
def as_json() -> dict[str, Any]:
    """As JSON."""
    container: dict[str, Any] = {"$Kind": "EntityContainer"}
    schema: dict[str, Any] = {}
    for name, entity_set in ENTITY_SETS.items():
        schema[name] = _json_type(entity_set)
        bound = {link: to.target for link, to in entity_set.links.items()}
        container[name] = {"$Collection": True, "$Type": f"{NAMESPACE}.{name}", "$NavigationPropertyBinding": bound}
    schema["File"] = {"$Kind": "ComplexType", **{name: {"$Nullable": True} for name in _FILE}}
    employee = f"{NAMESPACE}.Relationship_Person_Contact_Employee"
    schema["GetCurrentEmployee"] = [{"$Kind": "Function", "$ReturnType": {"$Type": employee}}]
    container["GetCurrentEmployee"] = {"$Function": f"{NAMESPACE}.GetCurrentEmployee"}
    schema["Container"] = container
    return {"$Version": "4.01", "$EntityContainer": f"{NAMESPACE}.Container", NAMESPACE: schema}


def _json_type(entity_set: EntitySet) -> dict[str, Any]:
    """In JSON, text is the type where none is named."""
    made: dict[str, Any] = {"$Kind": "EntityType"}
    if entity_set.base is None:
        made["$Key"] = ["ID"]
    else:
        made["$BaseType"] = f"{NAMESPACE}.{entity_set.base.name}"
    if entity_set.abstract:
        made["$Abstract"] = True
    for name, kind in entity_set.own.items():
        nullable = {} if name == "ID" else {"$Nullable": True}
        made[name] = {**({} if kind == "string" else {"$Type": _TYPES[kind]}), **nullable}
    for name in entity_set.files:
        made[name] = {"$Type": f"{NAMESPACE}.File", "$Nullable": True}
    for name, link in entity_set.own_links.items():
        said = {"$Collection": True} if link.many else {"$Nullable": True}
        made[name] = {"$Kind": "NavigationProperty", "$Type": f"{NAMESPACE}.{link.target}", **said}
    return made
