"""Generated organizations, persons, relationships and activities: the same for the same seed, made row by row.

A row is computed from its number alone, so that millions can be served without being held. Its ID carries the number,
scrambled, so that it is found again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from attrs import frozen

Row = dict[str, Any]

_FIRST: Final = [
    "Anna",
    "Bram",
    "Cem",
    "Daan",
    "Eva",
    "Fatima",
    "Gijs",
    "Hanna",
    "Ibrahim",
    "Joost",
    "Kees",
    "Lotte",
    "Mila",
    "Noor",
    "Olaf",
    "Petra",
    "Quinten",
    "Roos",
    "Sanne",
    "Thijs",
    "Ursula",
    "Vera",
    "Wouter",
    "Xenia",
    "Yara",
    "Zoë",
    "Aïcha",
    "Björn",
    "Chloé",
    "Søren",
    "Łukasz",
    "Siobhán",
]
_LAST: Final = [
    "de Vries",
    "Jansen",
    "van den Berg",
    "Bakker",
    "Visser",
    "Smit",
    "Meijer",
    "Mulder",
    "Bos",
    "Vos",
    "Peters",
    "Hendriks",
    "van Leeuwen",
    "Dekker",
    "Brouwer",
    "de Wit",
    "Dijkstra",
    "Smits",
    "de Graaf",
    "van der Meer",
    "O'Neill",
    "Demirtaş",
    "Kowalski",
    "Nguyen",
    "García",
    "Müller",
    "Öztürk",
    "D'Angelo",
]
_CITY: Final = [
    "Utrecht",
    "Den Haag",
    "'s-Hertogenbosch",
    "Groningen",
    "Zwolle",
    "Breda",
    "Leiden",
    "Maastricht",
    "Assen",
    "Goes",
]
_TRADE: Final = [
    "Bouw",
    "Zorg",
    "Techniek",
    "Advies",
    "Logistiek",
    "Software",
    "Tuinen",
    "Energie",
    "Media",
    "Onderwijs",
]
_SUBJECT: Final = ("Kennismaking", "Offerte", "Telefoongesprek", "Vervolgafspraak", "Klacht", "Evaluatie")


@frozen
class EntitySet:
    """What the API offers under one name. `navigation` names the entity set that a property leads to."""

    name: str
    properties: tuple[str, ...]
    navigation: dict[str, str]
    share: float
    """Rows for each person."""


ENTITY_SETS: Final = {
    entity_set.name: entity_set
    for entity_set in (
        EntitySet(
            "Relation_Person",
            ("ID", "FirstName", "LastName", "Name", "EmailAddress", "BirthDate", "CreatedOn", "Active"),
            {},
            1.0,
        ),
        EntitySet("Relation_Organization", ("ID", "Name", "City", "Website", "CreatedOn", "Employees"), {}, 0.2),
        EntitySet("Relationship_Organization_Identity", ("ID", "Name"), {"Relation": "Relation_Organization"}, 0.0),
        EntitySet(
            "Relationship_Person_ContactPerson",
            ("ID", "Function", "CreatedOn"),
            {"Person": "Relation_Person", "Organization": "Relation_Organization"},
            0.5,
        ),
        EntitySet(
            "Activity_Conversation",
            ("ID", "Subject", "Date", "Minutes", "Note"),
            {"Relation": "Relation_Person"},
            2.0,
        ),
    )
}


class Data:
    """The rows of one organization."""

    def __init__(self, seed: int, organization: str, persons: int) -> None:
        self._key = hashlib.blake2b(f"{seed}\0{organization}".encode()).digest()[:32]
        self._persons = persons
        self.organization = organization
        self.id = str(UUID(bytes=self._digest("organization", 0)[:16]))
        self.all = lru_cache(maxsize=4)(self._all)

    def count(self, entity_set: str) -> int:
        """How many rows there are."""
        if entity_set == "Relationship_Organization_Identity":
            return 1  # the organization itself
        return max(1, int(self._persons * ENTITY_SETS[entity_set].share)) if self._persons else 0

    def rows(self, entity_set: str, start: int, stop: int) -> Iterator[Row]:
        """Rows by number, in the order of the numbers."""
        for number in range(start, min(stop, self.count(entity_set))):
            yield self.row(entity_set, number)

    def _all(self, entity_set: str) -> list[Row]:
        return list(self.rows(entity_set, 0, self.count(entity_set)))

    def find(self, entity_set: str, guid: str) -> Row | None:
        """The row with this ID; None where there is none."""
        number = int(guid.replace("-", "")[-8:], 16) ^ self._mask(entity_set)
        if number >= self.count(entity_set):
            return None
        row = self.row(entity_set, number)
        return row if row["ID"] == guid.lower() else None

    def navigate(self, entity_set: str, row: Row, name: str) -> Row:
        """The row that a navigation property leads to."""
        target = ENTITY_SETS[entity_set].navigation[name]
        if entity_set == "Relationship_Organization_Identity":
            # It is not known whether Tribe uses the organization's UUID here too.
            return self.row(target, 0) | {"ID": self.id, "Name": self.organization}
        digest = self._digest(f"{entity_set}/{name}/{row['ID']}", 0)
        return self.row(target, int.from_bytes(digest[:4], "big") % self.count(target))

    def row(self, entity_set: str, number: int) -> Row:
        """One row."""
        digest = self._digest(entity_set, number)
        guid = UUID(bytes=digest[:12] + (number ^ self._mask(entity_set)).to_bytes(4, "big"))
        row: Row = {"ID": str(guid)}
        row.update(getattr(self, f"_{entity_set.lower()}")(digest[12:], number))
        return row

    def employee(self) -> Row:
        """The person on whose behalf a token acts."""
        return self.row("Relation_Person", 0)

    def _mask(self, entity_set: str) -> int:
        """What scrambles the number in an ID."""
        return int.from_bytes(self._digest(entity_set, -1)[:4], "big")

    def _digest(self, kind: str, number: int) -> bytes:
        return hashlib.blake2b(f"{kind}\0{number}".encode(), key=self._key).digest()

    # Each derives its values from the row's own bytes.

    def _relation_person(self, chance: bytes, number: int) -> Row:
        first, last = _FIRST[chance[0] % len(_FIRST)], _LAST[chance[1] % len(_LAST)]
        return {
            "FirstName": first,
            "LastName": last,
            "Name": f"{first} {last}",
            "EmailAddress": None if chance[2] < 25 else f"person{number}@example.com",
            "BirthDate": f"{1945 + chance[3] % 60}-{1 + chance[4] % 12:02}-{1 + chance[5] % 28:02}",
            "CreatedOn": _moment(chance[6:10]),
            "Active": chance[10] < 230,
        }

    def _relation_organization(self, chance: bytes, number: int) -> Row:
        return {
            "Name": f"{_LAST[chance[1] % len(_LAST)]} {_TRADE[chance[2] % len(_TRADE)]}",
            "City": _CITY[chance[0] % len(_CITY)],
            "Website": f"https://organization{number}.example.com",
            "CreatedOn": _moment(chance[3:7]),
            "Employees": 1 + chance[7] * 4,
        }

    def _relationship_organization_identity(self, chance: bytes, number: int) -> Row:
        return {"Name": self.organization}

    def _relationship_person_contactperson(self, chance: bytes, number: int) -> Row:
        return {"Function": _TRADE[chance[0] % len(_TRADE)], "CreatedOn": _moment(chance[1:5])}

    def _activity_conversation(self, chance: bytes, number: int) -> Row:
        return {
            "Subject": _SUBJECT[chance[0] % len(_SUBJECT)],
            "Date": _moment(chance[1:5]),
            "Minutes": 5 * (1 + chance[5] % 24),
            "Note": None if chance[6] < 128 else f"100% eens & verder + {chance[7]}",
        }


def _moment(chance: bytes) -> str:
    """A time of the years 2015 to 2024, in UTC, written with a Z as OData services do."""
    year, month, day, second = 2015 + chance[0] % 10, 1 + chance[1] % 12, 1 + chance[2] % 28, chance[3] * 337
    return f"{year}-{month:02}-{day:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"
