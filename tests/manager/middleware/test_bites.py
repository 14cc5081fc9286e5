"""The checks of this folder, run against middlewares with one known fault each: they have to find it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import pytest

from . import test_composition, test_origin, test_rejection, test_replay
from .broken import FollowsRedirects, ReentersItself, ReplaysEverything
from .world import Factory

Check = Callable[[Factory], Awaitable[None]]


def name(value: object) -> str | None:
    """How a check or a factory is called in the report."""
    return getattr(getattr(value, "func", value), "__name__", None)


TOKEN_FOLLOWS: list[Check] = [
    *(functools.partial(test_origin.test_another_origin_gets_no_token, status=status) for status in (301, 302, 303)),
    *(functools.partial(test_origin.test_another_origin_gets_no_token, status=status) for status in (307, 308)),
    *(functools.partial(test_origin.test_another_host_gets_no_token, host=host) for host in test_origin.FOREIGN_HOSTS),
    functools.partial(test_origin.test_another_origin_gets_no_token_with_a_body, status=307),
    test_origin.test_credentials_in_a_redirect_stay_off,
    test_origin.test_another_scheme_gets_no_token,
    test_origin.test_coming_back_gets_the_token,
    test_origin.test_a_callers_own_header_stays_off_other_origins,
]
REPLAYED: list[Check] = [
    test_replay.test_a_generator_is_not_sent_again,
    functools.partial(test_replay.test_a_generator_within_a_multipart_is_not_sent_again, depth=0),
    functools.partial(test_replay.test_a_generator_within_a_multipart_is_not_sent_again, depth=1),
    test_replay.test_a_generator_within_a_form_is_not_sent_again,
    functools.partial(test_replay.test_a_pipe_is_not_sent_again, wrap=lambda file: file),
]
REENTERED: list[Check] = [
    test_rejection.test_the_token_request_is_not_an_api_request,
    test_rejection.test_a_refused_refresh_comes_out_of_the_request,
    test_rejection.test_many_401s_at_once_ask_with_the_token_that_was_rejected,
    test_rejection.test_a_cancelled_caller_ends_no_refresh_and_holds_no_connection,
]
HARMLESS: list[Check] = [
    test_origin.test_within_the_api_a_redirect_keeps_the_token,
    test_origin.test_a_callers_own_header_gives_way_to_the_token,
    test_composition.test_no_middlewares_for_one_request,
]


@pytest.mark.parametrize(
    ("make", "check"),
    [
        *((FollowsRedirects, check) for check in TOKEN_FOLLOWS),
        *((ReplaysEverything, check) for check in REPLAYED),
        *((ReentersItself, check) for check in REENTERED),
    ],
    ids=name,
)
async def test_a_check_finds_the_fault(make: Factory, check: Check) -> None:
    """Each named check fails on the broken middleware, by its own assertion or because an error does not come."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await check(make)


@pytest.mark.parametrize("make", [FollowsRedirects, ReplaysEverything, ReentersItself], ids=name)
@pytest.mark.parametrize("check", HARMLESS, ids=name)
async def test_a_broken_middleware_is_broken_in_one_way(make: Factory, check: Check) -> None:
    """Where its fault plays no part it does as it should: what the checks above find is the fault."""
    await check(make)
