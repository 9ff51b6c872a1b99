"""Page tokens: they come back as they were made, for the same list, or not at all."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.ledger.records import TransactionType
from server.queries import TransactionFilter
from server.rpc.errors import InvalidArgument
from server.rpc.page_tokens import PageTokens

TOKENS = PageTokens(b"k" * 32)
LAST = "txn_01M83SM5GG0000001GC6R0PH3V"
FILTERS = st.builds(
    TransactionFilter,
    customer_id=st.text("abc\n-", min_size=1, max_size=6),
    currency_code=st.sampled_from(["", "INR", "JPY"]),
    types=st.frozensets(st.sampled_from(TransactionType)),
    start_time_ms=st.none() | st.integers(-1, 2),
    end_time_ms=st.none() | st.integers(-1, 2),
)
IDS = st.text("txn_0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=1, max_size=40)


@given(FILTERS, IDS)
@settings(max_examples=100)
def test_a_token_comes_back_as_it_was_made(wanted: TransactionFilter, last_id: str) -> None:
    """The token of a list tells where its next page starts, and is opaque text for URLs."""
    token = TOKENS.make(wanted, last_id)

    assert TOKENS.read(wanted, token) == last_id
    assert token.replace("-", "").replace("_", "").isalnum()


@given(FILTERS, FILTERS, IDS)
@settings(max_examples=100)
def test_a_token_serves_its_own_list_alone(
    wanted: TransactionFilter, other: TransactionFilter, last_id: str
) -> None:
    """With any filter or customer changed the token is refused."""
    token = TOKENS.make(wanted, last_id)
    if other == wanted:
        assert TOKENS.read(other, token) == last_id
    else:
        with pytest.raises(InvalidArgument):
            TOKENS.read(other, token)


@given(
    st.text(max_size=80)
    | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode())
)
@settings(max_examples=200)
def test_nobody_else_can_make_one(text: str) -> None:
    """Whatever text comes instead of a token is refused as INVALID_ARGUMENT; none is the start."""
    wanted = TransactionFilter("asha")
    if not text:
        assert TOKENS.read(wanted, text) == ""
    else:
        with pytest.raises(InvalidArgument) as refused:
            TOKENS.read(wanted, text)
        assert refused.value.violations[0].field == "page_token"


@given(st.data())
@settings(max_examples=100)
def test_any_change_is_noticed(data: st.DataObject) -> None:
    """One character changed, added or removed anywhere makes it no token."""
    wanted = TransactionFilter("asha")
    token = TOKENS.make(wanted, LAST)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("Aa0-_=x ").filter(lambda one: one != token[place]))
    for changed in (
        token[:place] + other + token[place + 1 :],
        token[:place] + token[place + 1 :],
        token[:place] + other + token[place:],
    ):
        with pytest.raises(InvalidArgument):
            TOKENS.read(wanted, changed)


def test_servers_with_one_key_read_each_others() -> None:
    """A token made by one server is good at another with the same key, and only there."""
    wanted = TransactionFilter("asha")
    token = TOKENS.make(wanted, LAST)

    assert PageTokens(b"k" * 32).read(wanted, token) == LAST
    with pytest.raises(InvalidArgument):
        PageTokens(b"l" * 32).read(wanted, token)
