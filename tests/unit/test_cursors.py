"""Cursors: they come back as they were made, for the same filters, or not at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.feed import (
    EventFilter,
    HistoryPosition,
    LivePosition,
    Moment,
    Position,
    WalletEventType,
)
from server.rpc.cursors import Cursors
from server.rpc.errors import InvalidArgument

CURSORS = Cursors(b"k" * 32)
MOMENTS = st.builds(Moment, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
IDS = st.text("txn_0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=1, max_size=40)
POSITIONS = st.one_of(
    st.builds(LivePosition, st.binary(max_size=400), st.none() | MOMENTS),
    st.builds(HistoryPosition, IDS, IDS, st.integers(0, 2**63), st.none() | MOMENTS),
)
FILTERS = st.builds(
    EventFilter, st.sampled_from(["", "asha"]), st.frozensets(st.sampled_from(WalletEventType))
)


@given(FILTERS, POSITIONS)
@settings(max_examples=100)
def test_a_cursor_comes_back_as_it_was_made(wanted: EventFilter, position: Position) -> None:
    """The cursor of a position tells that very position, and is opaque text."""
    cursor = CURSORS.make(wanted, position)

    assert CURSORS.read(wanted, cursor) == position
    assert cursor.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    ("cursor", "position"),
    [
        (
            "dJZiAwNw6HiVfSCtyS2IRVsibGl2ZSIsImRHOXJaVzQ9IixudWxsXQ",
            LivePosition(b"token"),
        ),
        (
            "kIIGLjiOoUds_DbWVbWxVlsiaGlzdG9yeSIsInR4bl8wMSIsInR4bl8wMiIsMyxbNCw1XV0",
            HistoryPosition("txn_01", "txn_02", 3, Moment(4, 5)),
        ),
    ],
)
def test_a_cursor_is_the_same_in_each_release(cursor: str, position: Position) -> None:
    """What an earlier release made is read, and what this one makes, that one reads."""
    wanted = EventFilter("asha", frozenset({WalletEventType.WALLET_FROZEN}))

    assert CURSORS.read(wanted, cursor) == position
    assert CURSORS.make(wanted, position) == cursor


@given(FILTERS, FILTERS, POSITIONS)
@settings(max_examples=100)
def test_a_cursor_serves_its_own_filters_alone(
    wanted: EventFilter, other: EventFilter, position: Position
) -> None:
    """A cursor is refused with other filters than it was made for."""
    if wanted == other:
        return
    with pytest.raises(InvalidArgument):
        CURSORS.read(other, CURSORS.make(wanted, position))


@given(st.text(max_size=60))
@settings(max_examples=100)
def test_what_was_not_made_here_is_refused(cursor: str) -> None:
    """A text that somebody made up is no cursor, and nothing worse happens."""
    with pytest.raises(InvalidArgument):
        CURSORS.read(EventFilter(), cursor)
