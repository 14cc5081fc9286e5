"""A session for each check: `nox -l` lists them. Interpreters that are not there are skipped."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = [
    classifier.rpartition(" :: ")[2]
    for classifier in PYPROJECT["project"]["classifiers"]
    if classifier.startswith("Programming Language :: Python :: 3.")
]

nox.needs_version = ">=2025.2.9"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "lint", "types", "docs"]

# Tests see the installed wheel: without this, Python would find the source tree first.
INSTALLED_ONLY = {"PYTHONSAFEPATH": "1"}


def install(session: nox.Session, *groups: str) -> None:
    """Install the library with all its extras, and what the dependency groups name."""
    extras = ",".join(sorted(PYPROJECT["project"]["optional-dependencies"]))
    session.install(f".[{extras}]", *nox.project.dependency_groups(PYPROJECT, *groups))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests against the built wheel, over every branch, by more workers than cores: many wait for a server."""
    install(session, "test")
    workers = str((os.cpu_count() or 1) * 3 // 2)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *(session.posargs or ["-n", workers]), env=INSTALLED_ONLY)
    if not session.posargs:
        session.run("coverage", "combine", "--quiet")
        session.run("coverage", "report")


@nox.session
def lint(session: nox.Session) -> None:
    """Format and lint."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types, of the public face too."""
    install(session, "types")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Run the examples of the README and of the docs, follow their links, and see that each promise has a test."""
    install(session, "test")
    session.run("pytest", "tests/docs", *(session.posargs or ["-n", "auto"]), env=INSTALLED_ONLY)


@nox.session(default=False)
def package(session: nox.Session) -> None:
    """Build the source distribution; the wheel made from it is the wheel made from the tree, byte by byte."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "package"))
    out = Path(session.create_tmp())
    session.run("python", "-m", "build", "--outdir", str(out / "both"), silent=True)
    session.run("python", "-m", "build", "--wheel", "--outdir", str(out / "tree"), silent=True)
    made = [_contents(next((out / way).glob("*.whl"))) for way in ("both", "tree")]
    if made[0] != made[1]:
        session.error(f"the wheels differ: {sorted(dict(made[0].items() ^ made[1].items()))}")
    session.log(f"{len(made[0])} files, the same from the source distribution and from the tree")


def _contents(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as opened:
        return {name: hashlib.sha256(opened.read(name)).hexdigest() for name in opened.namelist()}


@nox.session(default=False)
def browser(session: nox.Session) -> None:
    """Consent and connections in a headless Chromium, which has to be installed: apt-get install chromium."""
    install(session, "test", "browser")
    session.run("pytest", "tests/browser", *session.posargs, env=INSTALLED_ONLY)


@nox.session(default=False)
def smoke(session: nox.Session) -> None:
    """The benchmarks, in sizes whose figures mean nothing: that they run, and that their table is honest."""
    install(session, "test", "bench")
    session.run("python", "-m", "pytest", "tests/benchmarks", *session.posargs)


@nox.session(default=False)
def crash(session: nox.Session) -> None:
    """The long crash test: nox -s crash -- --rounds 2000 --seed 1 --store postgres."""
    install(session, "test")
    session.run("python", "tests/crash/harness.py", *session.posargs, env=INSTALLED_ONLY)


@nox.session(default=False)
def simulation(session: nox.Session) -> None:
    """The long random run on virtual time: nox -s simulation -- --steps 5000000 --seed 1."""
    install(session, "test")
    session.run("python", "-m", "tests.simulation", *session.posargs)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Spoiled records in every store, and the ways out: nox -s fuzz -- --records 10000 --seed 1 --store redis."""
    install(session, "test")
    session.run("python", "-m", "tests.fuzz", *session.posargs)
    if not session.posargs:
        session.run("pytest", "tests/manager/test_fuzz.py", env=INSTALLED_ONLY | {"TRIBE_OAUTH_FUZZ": "10000"})


@nox.session(default=False)
def cancellation(session: nox.Session) -> None:
    """Every public coroutine, cut at every await it has, in each kind of cancellation; and the table of how many."""
    install(session, "test")
    everything = {"TRIBE_OAUTH_CANCEL_EVERYTHING": "1"}
    session.run("pytest", "tests/cancellation", *session.posargs, env=INSTALLED_ONLY | everything)


@nox.session(default=False)
def sync(session: nox.Session) -> None:
    """The big shows of the export: nox -s sync -- everything, kills --times 50 --seed 1, or lies."""
    install(session, "test")
    shows = [session.posargs] if session.posargs else [["everything"], ["kills"], ["lies"]]
    for show in shows:
        session.run("python", "tests/sync/shows.py", *show, env=INSTALLED_ONLY)


@nox.session(default=False)
def limit(session: nox.Session) -> None:
    """The API's limit, kept by processes on each store, 30 minutes: nox -s limit -- --only "Redis, four"."""
    install(session, "test")
    session.run("python", "-m", "tests.limit.shows", *session.posargs)


@nox.session(default=False)
def moving(session: nox.Session) -> None:
    """Rows are added and deleted while sets are read, with kills: nox -s moving -- --seeds 200."""
    install(session, "test")
    session.run("python", "-m", "tests.sync.moving", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """The benchmarks, under 15 minutes on 2 cores: their table, benchmarks/results.json and docs/benchmarks."""
    install(session, "test", "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)
