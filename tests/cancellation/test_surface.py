"""No public coroutine goes uncut."""

from __future__ import annotations

from . import scenarios
from .surface import public_coroutines


def test_every_public_coroutine_has_a_scenario() -> None:
    """A new one needs one: write it in the module of its room here."""
    assert public_coroutines() - scenarios.covered() == set()


def test_no_scenario_is_for_what_is_gone() -> None:
    """What a scenario covers is public, but for a session's requests, a terminal's login and an app's handlers.

    Copies of records, and slots, are kept by an encrypted store where the store inside keeps them, which only its
    instance knows.
    """
    of_its_inside = {f"EncryptedStore.{name}" for name in ("rescue", "slots", "swap_slots")}
    beyond = {"web.login", "web.setup", "web.webhooks", "TokenManager.session"} | of_its_inside
    assert scenarios.covered() - public_coroutines() == beyond
