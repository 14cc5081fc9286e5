"""The page about web applications: its examples, run as they stand."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web

from tribe_oauth import TokenManager
from tribe_oauth import web as tribe_web

from ..web.world import account, browsing, world

PAGE = (Path(__file__).parents[2] / "docs" / "web.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(source: str, monkeypatch: pytest.MonkeyPatch, **yours: Any) -> dict[str, Any]:
    """Run an example as it stands. `yours`: what it imports from the application of its reader."""
    module = ModuleType("yourapp")
    module.__dict__.update(yours)
    monkeypatch.setitem(sys.modules, "yourapp", module)
    names: dict[str, Any] = {}
    exec(compile(source, "docs/web.md", "exec"), names)  # noqa: S102 (the page is ours)
    return names


async def test_the_application_of_a_new_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than thirty lines, and organizations connect themselves."""
    source = EXAMPLES[0]
    assert 10 < sum(1 for line in source.splitlines() if line.strip()) < 30
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(web, "run_app", lambda app: None)

    def build(_app: web.Application, manager: TokenManager) -> web.Application:
        line = re.search("^client = .*$", source, re.MULTILINE)
        assert line is not None
        source_here = source.replace(line[0], "from yourapp import client")
        app = run(source_here, monkeypatch, client=manager.client, signed_in=account)["app"]
        assert isinstance(app, web.Application)
        return app

    async with world(build=build) as there, browsing(there) as browser:
        assert (await browser.connect()).outcome == "connected"
        acme = there.sandbox.organizations["Acme"]
        assert len((await browser.get(f"/persons/{acme}")).text.split(",")) == 20
        assert acme in (await browser.get("/tribe/connections")).text
        there.sandbox.expire("Acme")
        refused: dict[str, Any] = {
            "status": 400,
            "body": '{"error": "invalid_grant"}',
            "content_type": "application/json",
        }
        there.sandbox.fault("status", **refused)
        seen = await browser.get(f"/persons/{acme}")
        assert (seen.status, seen.location) == (303, f"/tribe/connect?again={acme}&next=/persons/{acme}")
        assert (await browser.connect(seen.location.partition("connect")[2])).location == f"/persons/{acme}"
        async with browsing(there, "another") as other:
            assert (await other.get(f"/persons/{acme}")).status == 404
        async with browsing(there, None) as stranger:
            assert (await stranger.get("/tribe/connections")).status == 403
    assert (tmp_path / "tribe.db").exists()


async def test_a_find_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The organization by who the employee is."""

    def build(app: web.Application, manager: TokenManager) -> web.Application:
        names = {"app": app, "manager": manager, "account": account}
        run(EXAMPLES[1], monkeypatch, customer_of=lambda mail: f"the customer of {mail}", **names)
        return app

    async with world(build=build) as there, browsing(there) as browser:
        assert (await browser.connect()).outcome == "connected"
        assert "the customer of person" in (await browser.get("/tribe/connections")).text


async def test_pages_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says no more than the title."""

    def build(app: web.Application, manager: TokenManager) -> web.Application:
        run(EXAMPLES[2], monkeypatch, app=app, manager=manager, account=account)
        return app

    async with world(build=build) as there, browsing(there) as browser:
        assert (await browser.get((await browser.connect()).location)).text == "Connected"


def test_all_outcomes_are_told() -> None:
    """The table has each outcome of a callback, with the status of its page."""
    table = dict(re.findall(r"^\| `([a-z-]+)` \|.*\| (\d+) \|$", PAGE, re.MULTILINE))
    not_of_a_callback = {"forbidden", "bad-request", "stale-form", "not-disconnected"}
    told = {outcome.value: str(outcome.words.status) for outcome in tribe_web.Outcome}
    assert table == {name: status for name, status in told.items() if name not in not_of_a_callback}
