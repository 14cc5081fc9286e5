"""Each switch of the API's rules: what it changes, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import attrs
import pytest
from yarl import URL

from tribe_oauth.sandbox import ApiRules, Sandbox
from tribe_oauth.sandbox._model import CUSTOM_FIELD, ENTITY_SETS

from .servers import serve
from .test_odata import calling

PEOPLE = "Relation_Person"
NAMES = [field.name for field in attrs.fields(ApiRules)]


def test_the_docs_have_every_rule() -> None:
    """The table names each switch with its default, and no other; and how sure it is what Tribe does."""
    page = (Path(__file__).parents[2] / "docs" / "tribe.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (\d+|-) \| .+ \| (?:documented|noted|seen|measured|guessed).* \| (.+) \|$", page, re.MULTILINE
    )
    switches = [part for _, cell in rows for part in re.findall(r"`(\w+)=([^`]+)`", cell)]
    assert [name for name, _ in switches] == list(dict.fromkeys(name for name, _ in switches))
    assert {name for name, _ in switches} == set(NAMES)
    assert ApiRules.from_words([f"{name}={value}" for name, value in switches]) == ApiRules()
    assert {int(number) for number, _ in rows if number != "-"} == set(range(1, 39))


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"paging": "links"}, "no paging 'links': choose none or nextLink"),
        ({"calls": -1}, "no calls -1: choose a whole number or none"),
        ({"calls": True}, "no calls True"),
        ({"odata_id": 1}, "no odata_id 1: choose true or false"),
        ({"seconds": "60"}, "no seconds '60': choose a number"),
        ({"created": 201.0}, r"no created 201\.0: choose 201 or 200"),
        ({"block": -1.0}, "no block"),
        ({"webhook_header": None}, "no webhook_header None: choose a text"),
    ],
)
def test_values_that_are_none(rules: dict[str, Any], said: str) -> None:
    """The error says which there are."""
    with pytest.raises(ValueError, match=said):
        ApiRules(**rules)


def test_rules_as_words() -> None:
    """As the command line has them."""
    words = ["calls=none", "seconds=6", "paging=nextLink", "odata_id=false", "query_token=401", "default_page=7"]
    assert ApiRules.from_words([*words, "doubles=34"]) == ApiRules(
        calls=None, seconds=6.0, paging="nextLink", odata_id=False, query_token=401, default_page=7, doubles="34"
    )
    for word in ("paging=links", "calls=many", "odata_id=1", "seconds=none"):
        with pytest.raises(ValueError, match=f"no {word.split('=')[0]} '{word.split('=')[1]}'"):
            ApiRules.from_words([word])
    with pytest.raises(ValueError, match="no rule 'nothing': choose one of context, odata_id"):
        ApiRules.from_words(["nothing=1"])


@pytest.mark.parametrize(
    ("form", "plain", "selected", "entity"),
    [
        ("type", "$metadata#OData.Relation_Person", "$metadata#OData.Relation_Person", "/$entity"),
        (
            "standard",
            "$metadata#Relation_Person",
            "$metadata#Relation_Person(Title,ID,Address(ID),Notes())",
            "/$entity",
        ),
        ("absent", None, None, ""),
    ],
)
async def test_context(form: Any, plain: str | None, selected: str | None, entity: str) -> None:
    """Of lists, and of an entity."""
    async with calling(context=form) as api:
        _, answer = await api.get(PEOPLE)
        assert str(answer.get("@odata.context")).endswith(str(plain))
        guid = answer["value"][0]["ID"]
        _, answer = await api.get(PEOPLE, select="Title", expand="Address($select=ID),Notes")
        assert str(answer.get("@odata.context")).endswith(str(selected))
        _, answer = await api.get(f"{PEOPLE}({guid})")
        assert answer.get("@odata.context", "").endswith(entity)


async def test_odata_id() -> None:
    """It can be left out."""
    async with calling(odata_id=False) as api:
        assert set((await api.rows(PEOPLE, select="Title"))[0]) == {"ID", "Title"}


async def test_the_size_of_pages() -> None:
    """A `$top` beyond a page is cut, refused or honoured; without one, there are 100, others or all."""
    for rules, top, none in (
        ({}, 10, 10),
        ({"big_top": "refused"}, 400, 10),
        ({"big_top": "honoured"}, 25, 10),
        ({"default_page": 7}, 10, 7),
        ({"default_page": None}, 10, 40),
    ):
        async with calling(**rules) as api:
            status, answer = await api.get(PEOPLE, top=25)
            assert (status if status != 200 else len(answer["value"])) == top
            assert len(await api.rows(PEOPLE)) == none
            assert len(await api.rows(PEOPLE, filter="Name ne null", orderby="Name")) == none


async def test_a_stable_order() -> None:
    """Also where nothing asks for one."""
    async with calling(unordered="stable") as api:
        assert await api.rows(PEOPLE) == await api.rows(PEOPLE, orderby="ID")


@pytest.mark.parametrize(
    ("form", "content_type", "body"),
    [
        ("olingo", "application/json", r'\{"error":\{"code":null,"message":".+"\}\}'),
        (
            "spring",
            "application/json",
            r'\{"timestamp": "20.+", "status": 404, "error": "Not Found", "path": "/v1/.+\}',
        ),
        ("html", "text/html", r"<html><h1>404 Not Found</h1></html>"),
        ("empty", "application/octet-stream", ""),
    ],
)
async def test_forms_of_errors(form: Any, content_type: str, body: str) -> None:
    """The service's own, or what stands before it."""
    async with calling(errors=form) as api:
        headers = {"Authorization": f"Bearer {api.token}"}
        async with api.server.session.get(f"{api.server.api}/v1/odata/Nothing", headers=headers) as response:
            assert (response.status, response.content_type) == (404, content_type)
            assert re.fullmatch(body, await response.text())
            if form == "olingo":
                assert "Entity type not found" in await response.text()


async def test_a_set_that_is_missing() -> None:
    """404 or 400."""
    async with calling(missing_set=400) as api:
        assert (await api.get("Activity_Invoice"))[0] == 400


async def test_an_expanded_collection_that_is_cut() -> None:
    """Nothing says so."""
    async with calling() as api, calling(expand_cut=1) as cut:
        whole = {row["ID"]: row["Notes"] for row in await api.rows(PEOPLE, expand="Notes", orderby="ID")}
        for row in await cut.rows(PEOPLE, expand="Notes", orderby="ID"):
            assert row["Notes"] == whole[row["ID"]][:1]
        assert max(map(len, whole.values())) > 1


@pytest.mark.parametrize(("form", "digits"), [("milliseconds", 3), ("ticks", 7)])
async def test_fractions(form: Any, digits: int) -> None:
    """Without zeros at their end; a filter by the very text finds the row. What is written has them, too."""
    async with calling(fraction=form) as api:
        rows = await api.rows(PEOPLE, orderby="ID")
        fractions = [re.fullmatch(r".{19}(?:\.(\d+))?Z", row["CreationDate"])[1] or "" for row in rows]  # type: ignore[index]
        assert max(map(len, fractions)) <= digits
        assert not any(each.endswith("0") for each in fractions)
        assert any(fractions)
        for row in rows:
            text = f"CreationDate le {row['CreationDate']} and CreationDate ge {row['CreationDate']}"
            assert row["ID"] in [each["ID"] for each in await api.rows(PEOPLE, filter=text)]
        assert api.server.sandbox is not None
        made = api.server.sandbox.write("Acme", "POST", PEOPLE, {"LastName": "x"})
        assert made is not None
        assert re.fullmatch(r".{19}(?:\.\d+)?Z", made["CreationDate"])


@pytest.mark.parametrize(("form", "text"), [("34.0", "40.0"), ("34", "40")])
async def test_doubles(form: Any, text: str) -> None:
    """With a zero behind the point, or without."""
    async with serve("strict", persons=4, api=ApiRules(doubles=form)) as server:
        _, token = await server.refresh()
        assert server.sandbox is not None
        made = server.sandbox.write("Acme", "POST", "ProductLine", {"Quantity": 40, "Price": 0.5})
        assert made is not None
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        url = f"{server.api}/v1/odata/ProductLine({made['ID']})"
        async with server.session.get(url, headers=headers) as response:
            body = await response.text()
        assert f'"Quantity":{text},"Price":0.5' in body
        line = server.sandbox.organization("Acme").all("ProductLine")[0]
        assert type(line["Quantity"]) is (int if form == "34" else float)


async def test_rows_of_a_base_set() -> None:
    """With the fields of their own type."""
    async with calling(base_rows="all") as api:
        rows = await api.rows("Relation", orderby="ID", skip=3)
        assert all(("FirstName" in row) == (row["_Type"] == "Relation.Person") for row in rows)
        assert any("FirstName" in row for row in rows)


async def test_several_identities() -> None:
    """All of one organization."""
    async with calling(identities=3) as api:
        rows = await api.rows("Relationship_Organization_Identity", expand="Relation")
        assert len({row["ID"] for row in rows}) == 3
        assert len({row["Relation"]["ID"] for row in rows}) == 1


@pytest.mark.parametrize(("form", "text"), [("empty", ""), ("json", '{"error"'), ("html", "<html>")])
async def test_the_body_of_a_401(form: Any, text: str) -> None:
    """Empty, JSON or HTML."""
    async with (
        serve("strict", api=ApiRules(unauthorized=form)) as server,
        server.session.get(f"{server.api}/v1/odata/") as response,
    ):
        assert response.status == 401
        body = await response.text()
        assert body.startswith(text)
        assert bool(body) == bool(text)


async def test_a_token_in_the_query() -> None:
    """It works, or does not; the ledger has its fingerprint either way, and whose it was."""
    for rule, statuses in (("accepted", [200, 401]), (401, [401, 401])):
        async with serve("strict", api=ApiRules(query_token=rule)) as server:  # type: ignore[arg-type]
            _, answer = await server.refresh()
            assert server.sandbox is not None
            for token, status in zip((answer["access_token"], "wrong"), statuses, strict=True):
                url = f"{server.api}/v1/odata/{PEOPLE}?$top=1&access_token={token}"
                async with server.session.get(url) as response:
                    assert response.status == status
            ledger = server.sandbox.ledger
            assert len(ledger.exposed()) == len(ledger.summary()["exposed"]) == 2  # type: ignore[arg-type]
            assert [(it.organization, it.token) for it in ledger.events if it.kind == "exposed"] == [
                ("Acme", "access"),
                ("", "access"),
            ]
            assert answer["access_token"] not in json.dumps(ledger.dump())


async def test_metadata() -> None:
    """In XML and in JSON: types with their bases, fields and links, the sets, and the function."""
    async with calling() as api:
        headers, url = {"Authorization": f"Bearer {api.token}"}, f"{api.server.api}/v1/odata/$metadata"
        async with api.server.session.get(url, headers=headers) as response:
            assert response.content_type == "application/xml"
            root = ET.fromstring(await response.text())  # noqa: S314 (the sandbox's own)
        edm = "{http://docs.oasis-open.org/odata/ns/edm}"
        types = {each.get("Name"): each for each in root.iter(f"{edm}EntityType")}
        assert list(types) == [each.get("Name") for each in root.iter(f"{edm}EntitySet")] == list(ENTITY_SETS)
        person = types[PEOPLE]
        assert person.get("BaseType") == "OData.Relation"
        assert CUSTOM_FIELD in [each.get("Name") for each in person.iter(f"{edm}Property")]
        status, schema = await api.get("$metadata", format="json")
        assert (status, schema["$Version"]) == (200, "4.01")
        types = schema["OData"]
        assert types["Entity"]["$Key"] == ["ID"]
        assert types["Entity"]["ID"] == {"$Type": "Edm.Guid"}
        assert types[PEOPLE]["BirthDate"] == {"$Type": "Edm.Date", "$Nullable": True}
        assert types[PEOPLE]["Address"]["$Type"] == "OData.Address"
        assert types["Entity"]["Notes"]["$Collection"]
        assert set(types["Container"]) == {"$Kind", "GetCurrentEmployee", *ENTITY_SETS}


# The authorization server's


VERIFIER = "v" * 50


async def callback_of(sandbox: Sandbox, *, pkce: bool = False) -> URL:
    """Where a consent leads."""
    url = URL(sandbox.client().authorization_request(pkce=False).url)
    if pkce:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
        url = url.extend_query(code_challenge=challenge, code_challenge_method="S256")
    return URL(await sandbox.approve(str(url), organization="Acme"))


async def test_an_organization_in_the_url() -> None:
    """The consent ends with a 500."""
    async with serve("strict", api=ApiRules(organization_id=500)) as server:
        assert server.sandbox is not None
        url = server.sandbox.client().authorization_request(organization_id="x").url
        async with server.session.get(url) as response:
            assert response.status == 500
        assert "code" in (await callback_of(server.sandbox)).query


@pytest.mark.parametrize(
    ("rule", "statuses"), [("honoured", [200, 400]), ("ignored", [200, 200]), ("refused", ["invalid_request"] * 2)]
)
async def test_code_challenges(rule: Any, statuses: list[Any]) -> None:
    """Honoured, ignored with the verifier, or refused at the callback."""
    async with serve("strict", api=ApiRules(code_challenge=rule)) as server:
        assert server.sandbox is not None
        found: list[Any] = []
        for verifier in (VERIFIER, "x" * 50):
            callback = await callback_of(server.sandbox, pkce=True)
            if "error" in callback.query:
                found.append(callback.query["error"])
                continue
            form = {"code": callback.query["code"], "redirect_uri": server.sandbox.client().redirect_uri or ""}
            found.append((await server.token(grant_type="authorization_code", code_verifier=verifier, **form))[0])
        assert found == statuses


async def test_redirect_uris_and_the_token_answer() -> None:
    """Of the exchange and of the refresh; the callback without a slash; an answer without a scope."""
    rules = ApiRules(
        exchange_redirect_uri="optional", refresh_redirect_uri="optional", callback="?code=", token_scope=False
    )
    async with serve("strict", api=rules) as server:
        assert server.sandbox is not None
        callback = await callback_of(server.sandbox)
        assert callback.path == "/callback"
        status, answer = await server.token(grant_type="authorization_code", code=callback.query["code"])
        assert status == 200
        assert "scope" not in answer
        assert (await server.refresh(answer["refresh_token"]))[0] == 200
    async with serve("hydra-2.3", api=ApiRules(refresh_redirect_uri="needed")) as server:
        assert server.sandbox is not None
        callback, uri = await callback_of(server.sandbox), server.sandbox.client().redirect_uri or ""
        form = {"code": callback.query["code"], "redirect_uri": uri}
        _, answer = await server.token(grant_type="authorization_code", **form)
        assert (await server.refresh(answer["refresh_token"]))[0] == 400


async def test_offline_for_client_credentials() -> None:
    """Accepted, or refused in one of two ways."""
    for rule in ("accepted", "invalid_scope", "invalid_grant"):
        async with serve("strict", api=ApiRules(offline=rule)) as server:
            status, answer = await server.token(grant_type="client_credentials", scope="read offline")
            assert (status, answer.get("error", "accepted")) == (200 if rule == "accepted" else 400, rule)
            assert (await server.token(grant_type="client_credentials", scope="read"))[0] == 200
