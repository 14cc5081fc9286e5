"""Errors: one root, whole after a journey, each caller's own."""

from __future__ import annotations

import pickle

import aiohttp
import pytest

from tribe_oauth import errors
from tribe_oauth.errors import (
    CallbackError,
    ConfigurationError,
    ReauthorizationRequired,
    StoreError,
    TemporarilyUnavailable,
    TokenEndpointError,
    TribeOAuthError,
)
from tribe_oauth.odata import ODataError

ONE_OF_EACH: list[TribeOAuthError] = [
    ConfigurationError("c"),
    errors.UnknownOrganizationError("u", organization="acme"),
    errors.ManagerError("m"),
    CallbackError("b", error="access_denied"),
    TokenEndpointError("t", organization="acme", status=401, error="invalid_client", error_description="d"),
    TemporarilyUnavailable("n", organization="acme", status=503, next_attempt_at=7.0),
    errors.ScopeError("s", organization="acme"),
    ReauthorizationRequired("lost rotation", organization="acme"),
    StoreError("o", organization="acme"),
]


def every(kind: type[TribeOAuthError]) -> set[type[TribeOAuthError]]:
    return {kind}.union(*(every(below) for below in kind.__subclasses__()))


def test_one_root_and_no_other() -> None:
    """Nothing of aiohttp's or the operating system's: aiohttp itself retries what looks like a lost connection."""
    kinds = every(TribeOAuthError)
    assert {type(error) for error in ONE_OF_EACH} | {ODataError} <= kinds
    for kind in kinds:
        assert not issubclass(kind, aiohttp.ClientError | OSError | ValueError)
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, TribeOAuthError), name


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_a_journey(error: TribeOAuthError) -> None:
    """Pickled to another process and back, or made anew for another caller, it is the same in all fields."""
    error.add_note("a note")
    for other in (pickle.loads(pickle.dumps(error)), error.again()):  # noqa: S301 (our own)
        assert type(other) is type(error)
        assert other is not error
        assert other.args == error.args
        assert other.__dict__ == error.__dict__
        assert other.__traceback__ is None


def test_each_caller_has_its_own() -> None:
    """Frames and notes of one caller are not another's."""
    error = TemporarilyUnavailable("n", organization="acme")
    error.add_note("for all")
    first, second = error.again(), error.again()
    first.add_note("for the first")
    with pytest.raises(TemporarilyUnavailable):
        raise first
    assert second.__notes__ == ["for all"]
    assert second.__traceback__ is None


def test_what_may_pass_by_itself() -> None:
    """Retryable: the same call may succeed later with nobody doing anything."""
    assert {type(error) for error in ONE_OF_EACH if error.retryable} == {TemporarilyUnavailable, StoreError}


def test_connecting_again() -> None:
    """The organization, the cause and the remedy are in the text."""
    error = ReauthorizationRequired("lost rotation", organization="acme")
    assert str(error) == (
        "organization 'acme' has to be connected again (lost rotation): run the consent once more"
        " or connect a new refresh token"
    )
    assert (error.cause, error.organization) == ("lost rotation", "acme")
