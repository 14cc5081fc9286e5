"""Generated values: what stands in the fields of a row, from the row's own random bytes. Imported by `_data`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from tribe_oauth.sandbox._model import CUSTOM_FIELD, CUSTOM_TYPE, ENTITY_SETS

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
_CITY: Final = (
    ["Utrecht", "Den Haag", "'s-Hertogenbosch", "Groningen", "Zwolle", "Breda", "Leiden", "Maastricht", "Assen", "Goes"]
)  # fmt: skip
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
_SUBJECT: Final = ["Kennismaking", "Offerte", "Telefoongesprek", "Vervolgafspraak", "Klacht", "Evaluatie"]
_COUNTRIES: Final = ("Nederland NL", "België BE", "Duitsland DE", "Frankrijk FR", "Denemarken DK")
_PHASES: Final = ("Concept Draft", "Verstuurd Sent", "Onderhandeling Negotiation", "Gewonnen Won", "Verloren Lost")


_DAYS: Final = [
    f"{year}-{month:02}-{day:02}T" for year in range(2015, 2026) for month in range(1, 13) for day in range(1, 29)
]
_YEAR: Final = 12 * 28
_TIMES: Final = [f"{at // 3600:02}:{at // 60 % 60:02}:{at % 60:02}Z" for at in range(0, 256 * 337, 337)]


def moment(chance: bytes, years: int = 0) -> str:
    """A time of the years 2015 to 2024, or so many later, in UTC, in whole seconds."""
    return _DAYS[(chance[0] << 8 | chance[1]) % (10 * _YEAR) + years * _YEAR] + _TIMES[chance[2]]


@cache
def _empty(name: str) -> Row:
    return dict.fromkeys(ENTITY_SETS[name].kinds) | {"_Type": ENTITY_SETS[name].type_name}


def row_of(name: str, chance: bytes, number: int) -> Row:
    """A row of a set, without its ID. Three of ten were never changed; hardly one has a flag that is not null."""
    row = _empty(name).copy()
    row["CreationDate"] = moment(chance)
    if chance[4] >= 77:
        row["LastMutationDate"] = moment(chance, years=1)
    if chance[5] < 32:
        row["IsActive"] = True
    row["NumberOfNotes"] = float(chance[6] % 4)
    row.update(_MADE.get(name, _made_otherwise)(chance[8:], number))
    row["_Name"] = row["Name"] if "Name" in row else row.get("Subject")
    return row


def _person(chance: bytes, number: int) -> Row:
    first, last = _FIRST[chance[0] % len(_FIRST)], _LAST[chance[1] % len(_LAST)]
    day = _DAYS[(chance[4] << 8 | chance[5]) % _YEAR]
    return {
        "FirstName": first,
        "LastName": last,
        "Name": f"{first} {last}",
        "EmailAddress": None if chance[2] < 25 else f"person{number}@example.com",
        "BirthDate": f"{1945 + chance[3] % 60}{day[4:10]}",
        "BirthDay": day[5:10],
        CUSTOM_FIELD: _TRADE[chance[6] % len(_TRADE)],
    }


def _organization(chance: bytes, number: int) -> Row:
    return {
        "Name": f"{_LAST[chance[1] % len(_LAST)]} {_TRADE[chance[2] % len(_TRADE)]}",
        "Website": f"https://organization{number}.example.com",
        "NumberOfEmployees": 1 + chance[7] * 4,
    }


def _relationship(chance: bytes, number: int) -> Row:
    """A name that the service computes may begin with empty lines."""
    name = f"{_FIRST[chance[1] % len(_FIRST)]} {_LAST[chance[2] % len(_LAST)]}"
    return {"Name": f"\n\n{name}" if chance[3] < 64 else name}


def _contact(chance: bytes, number: int) -> Row:
    return {**_relationship(chance, number), "Department": _TRADE[chance[0] % len(_TRADE)]}


def _appointment(chance: bytes, number: int) -> Row:
    start = moment(chance[1:])
    return {
        "Subject": _SUBJECT[chance[0] % len(_SUBJECT)],
        "StartDate": start,
        "EndDate": f"{start[:14]}59:59Z",
        "Description": None if chance[6] < 128 else f"100% eens & verder + {chance[7]}",
    }


def _opportunity(chance: bytes, number: int) -> Row:
    amount, probability = 250.0 * chance[1] + chance[2] % 4 / 4, float(chance[3] % 11 * 10)
    return {
        "Subject": _SUBJECT[chance[0] % len(_SUBJECT)],
        "Number": str(1_000 + number),
        "Amount": amount,
        "Probability": probability,
        "WeightedAmount": amount * probability / 100,
        "ExpectedOrderDate": moment(chance[4:])[:10],
    }


def _line(chance: bytes, number: int) -> Row:
    return {"Description": _TRADE[chance[0] % 10], "Quantity": float(chance[1]), "Price": chance[2] / 4}


def _product(chance: bytes, number: int) -> Row:
    return {"Name": f"{_TRADE[chance[0] % 10]} {number}", "Code": f"P-{number}", "SalesPrice": chance[1] / 2}


def _address(chance: bytes, number: int) -> Row:
    return {
        "Street": f"{_LAST[chance[0] % len(_LAST)]}straat",
        "HouseNumber": 1 + chance[1],
        "Postalcode": f"{1_000 + 30 * chance[2]} AB",
        "City": _CITY[chance[3] % len(_CITY)],
    }


def _note(chance: bytes, number: int) -> Row:
    return {"Content": f"{_SUBJECT[chance[0] % len(_SUBJECT)]}: {chance[1]}% + meer"}


def _attachment(chance: bytes, number: int) -> Row:
    return {"Description": f"Bijlage {number}", "Version": 1}


def _custom(chance: bytes, number: int) -> Row:
    return {"Name": f"Eigen {number}", CUSTOM_FIELD: _TRADE[chance[0] % len(_TRADE)]}


def _country(chance: bytes, number: int) -> Row:
    name, code = _COUNTRIES[number].split()
    return {"Name": name, "Code": code, "LocalizedName": name, "IsDefault": number == 0}


def _phase(chance: bytes, number: int) -> Row:
    name, code = _PHASES[number].split()
    return {"Name": name, "Code": code, "LocalizedName": name}


def _made_otherwise(chance: bytes, number: int) -> Row:
    return {"Name": f"{number + 1}"}


_MADE: Final[dict[str, Callable[[bytes, int], Row]]] = {
    "Relation_Person": _person,
    "Relation_Organization": _organization,
    "Relationship_Person_Contact_Standard": _contact,
    "Relationship_Person_Contact_Employee": _relationship,
    **{
        f"Relationship_Organization_CommercialRelationship_{stage}": _relationship
        for stage in ("Suspect", "Lead", "HotProspect", "Prospect", "Customer")
    },
    "Activity_Appointment": _appointment,
    "Activity_SalesOpportunity": _opportunity,
    "ProductLine": _line,
    "Product": _product,
    "Address": _address,
    "Note": _note,
    "Attachment": _attachment,
    CUSTOM_TYPE: _custom,
    "Datastore_Country": _country,
    "Datastore_Phase_ActivitySalesOpportunity": _phase,
}
