"""The house keeps its order: who imports whom, what is public, what the core needs."""

from __future__ import annotations

import ast
import re
from importlib.metadata import requires
from pathlib import Path

import pytest

import tribe_oauth

PACKAGE = Path(tribe_oauth.__file__).parent

# Each room may import from those above it in this list, and from nothing else of the library.
FLOORS = [
    ["errors"],
    ["_token", "_clock", "_words"],
    ["_protocol", "stores._contract"],
    [
        "_client",
        "stores.memory",
        "stores._files",
        "stores.contract",
        "stores.encrypted",
        "stores.postgres",
        "stores.redis",
    ],
    ["stores", "stores._rescue"],
    ["stores._database"],
    ["stores._worker"],
    ["stores.sqlite"],
    ["_endpoint", "_payload"],
    ["_record"],
    ["_verdict", "_parts"],
    ["_exchange", "_commit", "_tasks", "_status"],
    ["_flight"],
    ["_refresh"],
    ["_connect", "_flights", "_middleware", "_environment"],
    ["_fleet"],
    ["_manager"],
    ["__init__"],
]
ROOMS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imports_of(path: Path) -> set[str]:
    """The modules of the library that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tribe_oauth":
            module = node.module.removeprefix("tribe_oauth").lstrip(".")
            found |= {module} if module else {_room(alias.name) for alias in node.names}
    return found


def _room(name: str) -> str:
    return name if (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir() else "__init__"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str) -> None:
    """No room imports from its own floor or from one above."""
    path = PACKAGE / f"{room.replace('.', '/')}.py"
    if not path.exists():
        path = PACKAGE / room.replace(".", "/") / "__init__.py"
    for imported in imports_of(path):
        allowed = ROOMS[imported] < ROOMS[room] or (room == "stores" and imported.startswith("stores."))
        assert allowed, f"{room} imports {imported}"


def test_every_room_has_its_place() -> None:
    """A new module of the core is put into the list above."""
    core = {module_name(path) for path in [*PACKAGE.glob("*.py"), *PACKAGE.glob("stores/*.py")]}
    assert core - {"pytest_plugin"} == set(ROOMS)


def test_the_sandbox_is_an_independent_witness() -> None:
    """It shares two value types with the library, and no protocol code."""
    for path in PACKAGE.glob("sandbox/*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tribe_oauth"):
                own = node.module.startswith("tribe_oauth.sandbox")
                values = node.module == "tribe_oauth._client" and {a.name for a in node.names} <= {
                    "Client",
                    "Endpoints",
                }
                assert own or values, f"{path.name} imports {node.module}"


def test_odata_knows_no_authentication() -> None:
    """Pages and rows know sessions, not tokens."""
    rooms = list(PACKAGE.glob("odata/*.py"))
    assert len(rooms) > 1
    for path in rooms:
        assert all(room == "errors" or room.startswith("odata.") for room in imports_of(path)), path.name


def test_the_sync_uses_what_users_have() -> None:
    """It stands on the manager's and odata's public names and reads pages; nothing of a token is its business."""
    rooms = list(PACKAGE.glob("sync/*.py"))
    assert len(rooms) > 1
    for path in rooms:
        for imported in imports_of(path):
            assert imported in {"__init__", "errors"} or imported.startswith(("odata", "sync.")), path.name


# The same for the rooms of the web application; of the core they see what users see, and three helpers.
WEB = [
    ["_outcome", "_organization", "_log"],
    ["_pending", "_pages"],
    ["_site"],
    ["_connections", "_flow"],
    ["_loopback"],
]
HELPERS = {"_token", "_words", "_client", "errors", "odata", "__init__"}


def test_the_web_application_is_above_the_core() -> None:
    """Its rooms have floors of their own, and only the commands come above."""
    floors = {room: floor for floor, rooms in enumerate(WEB) for room in rooms}
    rooms = {path.stem: path for path in PACKAGE.glob("web/*.py") if path.stem != "__init__"}
    assert set(rooms) == set(floors)
    for room, path in rooms.items():
        for imported in imports_of(path):
            own = imported.removeprefix("web.")
            assert imported in HELPERS or imported == "web" or floors[own] < floors[room], f"{room} imports {imported}"
    for path in [*PACKAGE.glob("*.py"), *PACKAGE.glob("stores/*.py"), *PACKAGE.glob("sandbox/*.py")]:
        assert not any(imported.startswith("web") for imported in imports_of(path)), path.name


def test_the_public_face_is_small() -> None:
    """Twenty names or fewer, all there, and nothing else in the front door."""
    assert len(tribe_oauth.__all__) <= 20
    assert all(hasattr(tribe_oauth, name) for name in tribe_oauth.__all__)
    front = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    assert {type(node) for node in front.body} == {ast.Expr, ast.ImportFrom, ast.Assign}


def test_the_core_needs_four_packages() -> None:
    """Everything else is an extra."""
    needed = [requirement for requirement in requires("tribe-oauth") or [] if "extra ==" not in requirement]
    assert sorted(re.split(r"[^\w-]", requirement)[0] for requirement in needed) == [
        "aiohttp",
        "anyio",
        "attrs",
        "cattrs",
    ]
