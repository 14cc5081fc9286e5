"""The house keeps its order: who imports whom, what is public, what the core needs. Run it with ``-s`` to see it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest

import tribe_oauth

PACKAGE = Path(tribe_oauth.__file__).parent

# The house, and each of its folders, from the ground up: a line is a floor, and a room imports from the floors below.
HOUSE = """
    errors  _clock  _times  _printable  _redaction  _retry_after  _shield  _durable  _strict_json
    _encoded  _hiding  _remedies  _retry  _whole
    _oauth  odata
    stores  sandbox
    _refresh  _limit
    _manager
    __init__
    sync  web  pytest_plugin
    cli
"""
FOLDERS = {
    "_oauth": """
        values  salvage  words
        authorization  environment  messages  proxy
        client  endpoint
        verdict
        explanation
        __init__
    """,
    "stores": """
        _contract  _redis_url  _sqlite_holder  _turns
        _contract_steps  _sqlite_files  _writes
        _columns  memory  encrypted  _sqlite_notes
        _contract_slots  _contract_trouble  _postgres_errors  _redis_errors  _redis_scripts  _sqlite_rescue
        _postgres_pool  _redis_pool
        contract  _redis_servers  _redis_settings
        postgres  redis  _sqlite_schema
        _sqlite_database
        __init__  _sqlite_worker
        sqlite
    """,
    "_refresh": """
        payload  tasks  guarded_store  rejections
        spend  commit
        context  record
        cached_token  lease
        token_requests  hold_off
        rotation
        refresh
        single_flight
        __init__
    """,
    "_limit": """
        __init__  rate_limit
        line
        ledger  reservation  window
        block  kept
        shared
        limits
    """,
    "_manager": """
        event_loop  organizations  status  settings  middleware  claims  warm_up
        calls  connect  sessions  token_source
        connections
        environment
        manager
        __init__
    """,
    "odata": """
        _json  _positions  _query
        _answer  _body  _keys
        _exchange  _inside  _next_link  _retries  _sets  _trail
        _ends  _typed  _writes
        _windows
        _pages
        _files  _functions  _rows
        _identity  _single
        __init__
    """,
    "sync": """
        _sink  _threads  _events  _parts
        _pace  _stored
        _disk  _retries
        _jsonl  _stream
        _export
        __init__
    """,
    "web": """
        _outcome  _organization  _log  _serving  _speculative  _events  _signature
        _pending  _pages  _waiting
        _site
        _connections  _flow  _errors  _webhooks
        _loopback  _setup
        __init__
    """,
    "sandbox": """
        _application  _browser  _consent  _keys  _ledger  _lies  _model  _refusals  _rules  _serving
        _faults  _generated  _limit  _literals  _metadata  _problems
        _filter  _issued  _paths  _profiles  _remote  _spelling  _store
        _authority  _data  _query  _races
        _fields  _oauth  _pages  _shown
        _reading  _writing
        _webhooks
        _odata  _routes
        _server
        __init__
        __main__
    """,
    "cli": """
        _exit  _finding  _keyboard  _processes  _words
        _inspect  _managers  _output  _report  _run  _sandbox
        _demo  _export  _get  _login  _organizations  _store  _trials
        _doctor
        _app
        __init__
        __main__
    """,
}

# What a room may know of others beyond its floor: less than all that lies below it.
KNOWS = {
    "odata": {"errors", "_clock", "_encoded", "_printable", "_remedies", "_retry", "_retry_after", "_shield"},
    # What a caller holds: an independent witness shares no protocol code.
    "sandbox": {"_oauth.client", "_oauth.values", "_shield"},
    "_limit": {"errors", "stores", "_clock", "_retry_after"},
    "sync": {
        "__init__",
        "errors",
        "odata",
        "_limit.reservation",
        "_durable",
        "_printable",
        "_remedies",
        "_shield",
        "_strict_json",
        "_whole",
    },
    "web": {
        *("__init__", "errors", "odata", "_oauth.client", "_oauth.values"),
        *("_times", "_redaction", "_hiding", "_printable", "_remedies", "_shield", "_strict_json"),
    },
}


def floors(table: str) -> dict[str, int]:
    """Each room's floor."""
    lines = [line.split() for line in table.strip().splitlines()]
    return {room: floor for floor, rooms in enumerate(lines) for room in rooms}


def modules() -> Iterator[str]:
    """All modules of the library, as in ``_oauth.values``; a folder's own is its ``__init__``."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports_of(module: str) -> set[str]:
    """The modules of the library that one imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tribe_oauth":
            named = node.module.removeprefix("tribe_oauth").lstrip(".")
            for alias in node.names:
                found.add(_module(f"{named}.{alias.name}".lstrip(".")) or _module(named) or "__init__")
    return found


def _module(name: str) -> str | None:
    path = PACKAGE / name.replace(".", "/")
    if path.is_dir():
        return f"{name}.__init__".lstrip(".")
    return name if path.with_suffix(".py").exists() else None


def room_of(module: str) -> tuple[str, str]:
    """The room of the house that a module is in, and its own name there."""
    folder, _, name = module.rpartition(".")
    return (folder, name) if folder else (name, "")


@pytest.mark.parametrize("module", list(modules()))
def test_a_room_can_be_seen_at_once(module: str) -> None:
    """No module has more than 300 lines."""
    assert len((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8").splitlines()) <= 300


def test_the_floors() -> None:
    """Prints them, for whoever looks."""
    for name, table in {"tribe_oauth": HOUSE, **FOLDERS}.items():
        print(f"\n{name}/")  # noqa: T201 (asked for)
        for floor, line in reversed(list(enumerate(table.strip().splitlines()))):
            print(f"  {floor}  {line.strip()}")  # noqa: T201


def test_every_room_has_its_place() -> None:
    """A new module is put into the tables above; what is gone is taken out."""
    assert set(floors(HOUSE)) == {room_of(module)[0] for module in modules()}
    for folder, table in FOLDERS.items():
        assert set(floors(table)) == {path.stem for path in (PACKAGE / folder).glob("*.py")}, folder


@pytest.mark.parametrize("module", list(modules()))
def test_imports_go_one_way(module: str) -> None:
    """No room imports from its own floor or from one above."""
    house, (room, name) = floors(HOUSE), room_of(module)
    for imported in imports_of(module):
        there, its_name = room_of(imported)
        if there == room:
            inside = floors(FOLDERS[room])
            allowed = inside[its_name] < inside[name] or imported == module
        else:
            allowed = house[there] < house[room]
            if room in KNOWS:
                allowed &= there in KNOWS[room] or imported in KNOWS[room]
        assert allowed, f"{module} imports {imported}"


def test_the_sandbox_is_an_independent_witness() -> None:
    """Of the library it knows two types of values, and no protocol code."""
    for path in PACKAGE.glob("sandbox/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tribe_oauth._oauth"):
                assert {alias.name for alias in node.names} <= {"Client", "Endpoints"}, path.name


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
