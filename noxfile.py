"""A session for each check: `nox -l` lists them. Interpreters that are not there are skipped."""

from __future__ import annotations

import tomllib
from pathlib import Path

import nox

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [
    classifier.rpartition(" :: ")[2]
    for classifier in PROJECT["classifiers"]
    if classifier.startswith("Programming Language :: Python :: 3.")
]

nox.needs_version = ">=2024.10"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "lint", "types", "docs"]

# Tests see the installed wheel: without this, Python would find the source tree first.
INSTALLED_ONLY = {"PYTHONSAFEPATH": "1"}


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests against the built wheel, over every branch."""
    session.install(".[test]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs, env=INSTALLED_ONLY)
    if not session.posargs:
        session.run("coverage", "combine", "--quiet")
        session.run("coverage", "report")


@nox.session
def lint(session: nox.Session) -> None:
    """Format and lint."""
    session.install("ruff==0.17.6")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types, of the public face too."""
    session.install(".[test,bench]", "mypy==2.4.1", "nox", "playwright>=1.60")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Run the examples of the README and of the docs, and follow their links."""
    session.install(".[test]")
    session.run("pytest", "tests/docs", *session.posargs, env=INSTALLED_ONLY)


@nox.session(default=False)
def browser(session: nox.Session) -> None:
    """Consent and connections in a headless Chromium, which has to be installed: apt-get install chromium."""
    session.install(".[test]", "playwright>=1.60")
    session.run("pytest", "tests/browser", *session.posargs, env=INSTALLED_ONLY)


@nox.session(default=False)
def smoke(session: nox.Session) -> None:
    """The benchmarks, in sizes whose figures mean nothing: that they run, and that their table is honest."""
    session.install(".[test,bench]")
    session.run("python", "-m", "pytest", "tests/benchmarks", *session.posargs)


@nox.session(default=False)
def crash(session: nox.Session) -> None:
    """The long crash test: nox -s crash -- --rounds 2000 --seed 1 --store postgres."""
    session.install(".[test]")
    session.run("python", "tests/crash/harness.py", *session.posargs, env=INSTALLED_ONLY)


@nox.session(default=False)
def simulation(session: nox.Session) -> None:
    """The long random run on virtual time: nox -s simulation -- --steps 5000000 --seed 1."""
    session.install(".[test]")
    session.run("python", "-m", "tests.simulation", *session.posargs)


@nox.session(default=False)
def cancellation(session: nox.Session) -> None:
    """Every public coroutine, cut at every await it has, in each kind of cancellation; and the table of how many."""
    session.install(".[test]")
    everything = {"TRIBE_OAUTH_CANCEL_EVERYTHING": "1"}
    session.run("pytest", "tests/cancellation", *session.posargs, env=INSTALLED_ONLY | everything)


@nox.session(default=False)
def sync(session: nox.Session) -> None:
    """The big shows of the export: nox -s sync -- everything, nox -s sync -- kills --times 50 --seed 1."""
    session.install(".[test]")
    shows = [session.posargs] if session.posargs else [["everything"], ["kills"]]
    for show in shows:
        session.run("python", "tests/sync/shows.py", *show, env=INSTALLED_ONLY)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """The benchmarks, under 15 minutes on 2 cores: their table, benchmarks/results.json and docs/benchmarks."""
    session.install(".[test,bench]")
    session.run("python", "-m", "benchmarks", *session.posargs)
