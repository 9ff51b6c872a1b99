"""The access token of the PayPal adapter: one for all calls, and never a stale one."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway_adapters.gateway import GatewayUnavailable
from gateway_adapters.paypal import Paypal
from paypal_bench import Bench, make_topup, running_bench, status


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give an adapter whose every request to the API goes through the line."""
    async with running_bench() as running:
        yield running


async def test_one_token_serves_all_calls(bench: Bench) -> None:
    """A token is asked for once, also by many calls at the same moment."""
    topups = [make_topup(topup_id=f"top_{number}") for number in range(10)]
    await asyncio.gather(*(bench.paypal.open_topup(topup) for topup in topups))
    await bench.paypal.open_topup(make_topup())
    assert len(bench.line.requests("POST", "/token")) == 1


async def test_a_token_is_renewed_before_it_expires(bench: Bench) -> None:
    """Nothing is sent with a token in its last minute."""
    await bench.paypal.open_topup(make_topup())
    bench.seconds = bench.sandbox.routes.token_seconds - 61
    await bench.paypal.open_topup(make_topup())
    assert len(bench.line.requests("POST", "/token")) == 1
    bench.seconds += 1
    await bench.paypal.open_topup(make_topup())
    assert len(bench.line.requests("POST", "/token")) == 2


async def test_a_token_with_a_short_life_is_used_for_nine_tenths_of_it(bench: Bench) -> None:
    """However short its life is, a token serves for a while."""
    bench.sandbox.routes.token_seconds = 10
    await bench.paypal.open_topup(make_topup())
    bench.seconds = 8.9
    await bench.paypal.open_topup(make_topup())
    assert len(bench.line.requests("POST", "/token")) == 1
    bench.seconds = 9
    await bench.paypal.open_topup(make_topup())
    assert len(bench.line.requests("POST", "/token")) == 2


async def test_a_token_that_is_refused_is_replaced_once(bench: Bench) -> None:
    """PayPal may take a token back early: the call goes on with a new one."""
    topup = await bench.opened()
    bench.sandbox.routes.tokens.clear()
    await asyncio.gather(*(bench.look_up(topup) for _ in range(5)))
    assert len(bench.line.requests("POST", "/token")) == 2


async def test_a_refusal_of_every_token_is_our_fault_and_ends(bench: Bench) -> None:
    """Two 401 in a row are not tried a third time; they look as if PayPal were away."""
    bench.line.due("/orders", status(401), status(401))
    with pytest.raises(GatewayUnavailable, match="credentials"):
        await bench.paypal.open_topup(make_topup())
    assert len(bench.line.requests("POST", "/orders")) == 2


async def test_wrong_credentials_are_our_fault(bench: Bench) -> None:
    """The customer hears of a gateway that is not available; the operator has to act."""
    settings = replace(bench.settings, client_secret="another")
    with pytest.raises(GatewayUnavailable, match="credentials"):
        await Paypal(bench.session, settings).open_topup(make_topup())


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"access_token": "", "expires_in": 1}',
        b'{"access_token": "x"}',
        b'{"access_token": "x", "expires_in": "1"}',
        b'{"access_token": "x", "expires_in": true}',
        b'{"access_token": "x", "expires_in": -1}',
        b'{"access_token": "x", "expires_in": 1' + b"0" * 400 + b"}",
        b'{"access_token": "x\\r\\nHost: evil", "expires_in": 1}',
        b'{"access_token": 7, "expires_in": 1}',
    ],
)
async def test_a_token_that_is_none_is_not_used(bench: Bench, body: bytes) -> None:
    """What does not look like a token comes into no header."""
    bench.line.due("/token", status(200, body))
    with pytest.raises(GatewayUnavailable):
        await bench.paypal.open_topup(make_topup())
    assert len(bench.line.seen) == 1


async def test_a_failed_token_is_not_remembered(bench: Bench) -> None:
    """The next call asks again."""
    bench.line.due("/token", status(500), status(500))
    with pytest.raises(GatewayUnavailable):
        await bench.paypal.open_topup(make_topup())
    await bench.paypal.open_topup(make_topup())
