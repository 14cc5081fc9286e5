"""A lease of another: it ends, whatever the store's clock does."""

from __future__ import annotations

import attrs

from tribe_oauth._refresh.lease import LONGEST, PeerLease

from .records import connected

RECORD = connected(lease="n", lease_left=80.0)


def test_it_ends_as_the_store_says() -> None:
    """Also earlier than it said before: its holder has gone."""
    lease = PeerLease()
    assert lease.left(RECORD, 1000.0) == 80.0
    assert lease.left(attrs.evolve(RECORD, lease_left=70.0), 1010.0) == 70.0
    assert lease.left(attrs.evolve(RECORD, lease_left=0.0), 1011.0) == 0.0


def test_it_does_not_begin_anew() -> None:
    """Unless somebody wrote."""
    lease = PeerLease()
    lease.left(RECORD, 1000.0)
    assert lease.left(RECORD, 1079.0) == 1.0
    assert lease.left(RECORD, 1080.0) == 0.0
    assert lease.left(attrs.evolve(RECORD, version=9), 1080.0) == 80.0


def test_it_is_no_longer_than_any_host_takes_one() -> None:
    """A number that nobody wrote."""
    assert PeerLease().left(attrs.evolve(RECORD, lease_left=1e18), 0.0) == LONGEST
