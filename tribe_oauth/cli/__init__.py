"""The command line. Without the extra it says how to get it."""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """The entry point of ``tribe-oauth``."""
    if importlib.util.find_spec("typer") is None or importlib.util.find_spec("rich") is None:
        sys.stderr.write("the command line needs an extra: pip install 'tribe-oauth[cli]'\n")
        raise SystemExit(2)
    from tribe_oauth.cli._app import app
    from tribe_oauth.cli._output import whole_output

    with whole_output():
        app()
