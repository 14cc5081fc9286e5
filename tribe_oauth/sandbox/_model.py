"""The types of entities, as literal data: names, fields and links as they are publicly known, and two custom ones.

May be imported by every room that reads, writes or describes entities.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final, Literal

from attrs import field, frozen

Kind = Literal["string", "guid", "stamp", "date", "boolean", "double", "int"]

CUSTOM_FIELD: Final = "_9ecc8d21__f69a__4c1e__9b5e__2f0d6a7c1b34"
CUSTOM_TYPE: Final = "e4d6da94__fe9d__4d0c__8a51__7b0c9e3f2a68"
"""A UUID as the API writes it: two underscores for each hyphen, and one before a digit at its beginning."""


@frozen
class Link:
    """A navigation property. `target`: the entity set that it leads to. `optional`: it may lead nowhere."""

    target: str
    many: bool = False
    optional: bool = False


@frozen(slots=False)
class EntitySet:
    """What the API offers under one name: a type's entities, those of the types below it included.

    `share`: generated rows for each person; `fixed`: so many, however many persons there are. `abstract`: it has no
    rows of its own. `read_only`: its rows cannot be written. `level`: types of one level convert into each other.
    """

    name: str
    base: EntitySet | None
    own: dict[str, Kind]
    own_links: dict[str, Link]
    files: tuple[str, ...] = ()
    share: float = 0.0
    fixed: int = 0
    abstract: bool = False
    read_only: bool = False
    required: tuple[str, ...] = ()
    level: str = ""
    below: list[EntitySet] = field(factory=list, repr=False, eq=False)

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """All properties, each with its kind."""
        return {**self.own, **(self.base.kinds if self.base else {})}

    @property
    def properties(self) -> tuple[str, ...]:
        """The names of all properties."""
        return tuple(self.kinds)

    @cached_property
    def links(self) -> dict[str, Link]:
        """All navigation properties."""
        return {**(self.base.links if self.base else {}), **self.own_links}

    @cached_property
    def type_name(self) -> str:
        """As `_Type` has it: with dots, and a custom type as its UUID."""
        if "__" in self.name:
            return self.name.strip("_").replace("__", "-")
        return self.name.replace("_", ".")

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the sets that its rows are of."""
        return frozenset(each.name for each in self.concrete)

    @cached_property
    def concrete(self) -> tuple[EntitySet, ...]:
        """The types that the rows of this set are of."""
        own = () if self.abstract else (self,)
        return (*own, *(each for below in self.below for each in below.concrete))


ENTITY_SETS: Final[dict[str, EntitySet]] = {}


def _set(
    name: str,
    base: str,
    own: str = "",
    links: str = "",
    *,
    files: tuple[str, ...] = (),
    share: float = 0.0,
    fixed: int = 0,
    abstract: bool = False,
    read_only: bool = False,
    required: tuple[str, ...] = (),
    level: str = "",
) -> None:
    """Add one. `own`: names, each with ``:kind`` unless it is text; `links`: ``Name=Target``, with ``*`` or ``?``."""
    pairs = (word.partition(":") for word in own.split())
    kinds: dict[str, Kind] = {word: kind or "string" for word, _, kind in pairs}  # type: ignore[misc]
    leads = {word: _link(target) for word, _, target in (link.partition("=") for link in links.split())}
    above = ENTITY_SETS.get(base)
    made = EntitySet(name, above, kinds, leads, files, share, fixed, abstract, read_only, required, level)
    ENTITY_SETS[name] = made
    if above is not None:
        above.below.append(made)


def _link(text: str) -> Link:
    return Link(text.rstrip("*?"), many=text.endswith("*"), optional=text.endswith("?"))


_set(
    "Entity", "",
    "_Type _Name SortIndex:double CreationDate:stamp LastMutationDate:stamp ID:guid CloseDate:stamp Start:stamp"
    " End:stamp Deadline:stamp IsActive:boolean IsClosed:boolean IsRoot:boolean IsExclusion:boolean"
    " NumberOfNotes:double NumberOfAttachments:double ImportId",
    "Notes=Note* Attachments=Attachment*",
    abstract=True,
)  # fmt: skip
_set(
    "Relation", "Entity",
    "Name PhoneNumber EmailAddress Number DebtorNumber IBAN",
    "Language=Datastore_Country?", abstract=True,
)  # fmt: skip
_set(
    "Relation_Person", "Relation",
    f"FirstName MiddleName LastName Title BirthDate:date BirthDay MobilePhoneNumber {CUSTOM_FIELD}",
    "Address=Address?", files=("Picture",), share=1.0, required=("LastName",),
)  # fmt: skip
_set(
    "Relation_Organization", "Relation",
    "Website FinancialEmailAddress VATNumber ChamberOfCommerceNumber NumberOfEmployees:int FoundingDate:date",
    "VisitingAddress=Address PostalAddress=Address?", share=0.2, required=("Name",),
)  # fmt: skip
_set("Relationship", "Entity", "Name", "Relation=Relation_Organization", abstract=True)
_set("Relationship_Organization_Identity", "Relationship")
_set("Relationship_Person_Contact", "Relationship", "", "Person=Relation_Person", abstract=True)
_set(
    "Relationship_Person_Contact_Standard", "Relationship_Person_Contact",
    "Department EmailAddress PhoneNumber MobilePhoneNumber", share=0.5,
)  # fmt: skip
_set("Relationship_Person_Contact_Employee", "Relationship_Person_Contact", share=0.02)
_set(
    "Relationship_Organization_CommercialRelationship", "Relationship",
    "IsFormer:boolean FormerDate:date UpgradeDate:date DowngradeDate:date MailingOptOut:boolean",
    "AccountManager=Relationship_Person_Contact_Employee? Organization=Relation_Organization", abstract=True,
)  # fmt: skip
for _stage, _share in (("Suspect", 0.02), ("Lead", 0.05), ("HotProspect", 0.02), ("Prospect", 0.03), ("Customer", 0.1)):
    _set(
        f"Relationship_Organization_CommercialRelationship_{_stage}",
        "Relationship_Organization_CommercialRelationship",
        "PaymentTermInDays:int" if _stage == "Customer" else "",
        share=_share,
        level="commercial",
    )
_set("Activity", "Entity", "Subject Description", "Relationship=Relationship? Contact=Relation_Person?", abstract=True)
_set(
    "Activity_Appointment", "Activity", "StartDate:stamp EndDate:stamp",
    "Owner=Relationship_Person_Contact_Employee?", share=2.0,
)  # fmt: skip
_set(
    "Activity_SalesOpportunity", "Activity",
    "Number Amount:double Probability:double WeightedAmount:double EstimatedAmount:double ExpectedOrderDate:date",
    "Phase=Datastore_Phase_ActivitySalesOpportunity SalesRepresentative=Relationship_Person_Contact_Employee?"
    " ProductLines=ProductLine*", share=0.3,
)  # fmt: skip
_set(
    "ProductLine", "Entity",
    "Description Quantity:double Price:double PurchasePrice:double DiscountPercentage:double IsBilled:boolean",
    "Product=Product?", share=0.5,
)  # fmt: skip
_set(
    "Product", "Entity",
    "Name Code Description SalesPrice:double PurchasePrice:double StockLevel:double IsInactive:boolean", share=0.1,
)  # fmt: skip
_set(
    "Address", "Entity", "Street HouseNumber:int HouseNumberSuffix Extra Postalcode City", "Country=Datastore_Country",
    share=0.8,
)  # fmt: skip
_set("Note", "Entity", "Content IsPinned:boolean", share=0.3)
_set(
    "Attachment", "Entity", "Description ContentId Version:int IsVisibleInSupportPortal:boolean", "Entity=Entity?",
    files=("File",), share=0.1,
)  # fmt: skip
_set("Datastore", "Entity", "Name Code LocalizedName IsDefault:boolean", abstract=True, read_only=True)
_set("Datastore_Country", "Datastore", fixed=5, read_only=True)
_set("Datastore_Phase", "Datastore", abstract=True, read_only=True)
_set("Datastore_Phase_ActivitySalesOpportunity", "Datastore_Phase", fixed=5, read_only=True)
_set(CUSTOM_TYPE, "Entity", f"Name {CUSTOM_FIELD}", "Person=Relation_Person?", share=0.1)
_set("_3b7f10c2__8d1e__4a6b__bf21__5c9a0e7d4f13", "Datastore", fixed=3)

BY_TYPE: Final = {entity_set.type_name: entity_set for entity_set in ENTITY_SETS.values()}
"""Each entity set, by the name that `_Type` has."""
