"""`wallet-payment wallet`: an operator freezes a wallet, sets a tier, and sees who did what."""

import json
from collections.abc import AsyncIterator

import pytest

from command_line import run
from harness import Harness, refusal_of, running_harness, with_database

LIMITS = json.dumps(
    {"default": {"INR": {"daily_spend": 100}}, "verified": {"INR": {"daily_spend": 1_000}}}
)


@pytest.fixture(scope="module")
async def limited(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service whose wallets have limits."""
    uri = with_database(mongodb_uri, "wallet_commands")
    async with running_harness(uri, limits=LIMITS) as running:
        yield running


async def wallet(harness: Harness, *arguments: str, status: int = 0) -> str:
    """Run `wallet-payment wallet` on the database of the harness; return all that it says."""
    environment = {
        "WALLET_MONGODB_URI": harness.settings.mongodb_uri.get_secret_value(),
        "WALLET_LIMITS": LIMITS,
    }
    return "".join(await run("wallet", *arguments, environment=environment, status=status))


async def test_a_wallet_is_frozen_and_thawed_with_who_and_why(limited: Harness) -> None:
    """While it is frozen nothing is paid; what was done is shown, newest first."""
    customer = await limited.customer(500)
    why = ("--why", "reported stolen", "--by", "asha")

    frozen = await wallet(limited, "freeze", customer, "INR", *why)
    again = await wallet(limited, "freeze", customer, "INR", *why)
    assert frozen == again == f"{customer} INR: FROZEN, by an operator, holds INR 5.00\n"
    assert (await refusal_of(limited.pay(customer, 1))).reason == "WALLET_FROZEN"

    thawed = await wallet(limited, "unfreeze", customer, "INR", "--why", "found", "--by", "ben")
    assert thawed == f"{customer} INR: ACTIVE, holds INR 5.00\n"
    unfreeze = ("unfreeze", customer, "INR", "--why", "found", "--by", "ben")
    told = json.loads(await wallet(limited, *unfreeze, "--json"))
    assert (told["customer_id"], told["state"]) == (customer, "ACTIVE")
    assert told["balance_minor_units"] == 500
    await limited.pay(customer, 1)

    shown = json.loads(await wallet(limited, "show", customer, "--json"))
    actions = [(one["kind"], one["by"], one["why"]) for one in shown["actions"]]
    assert actions == [("UNFREEZE", "ben", "found"), ("FREEZE", "asha", "reported stolen")]
    [mine] = shown["wallets"]
    assert (mine["state"], mine["balance_minor_units"]) == ("ACTIVE", 499)
    assert mine["usage"]["day"]["payment_amount"] == 1
    text = await wallet(limited, "show", customer)
    assert f"{customer}: tier default, 1 wallets" in text
    assert "FREEZE INR by asha: reported stolen" in text


async def test_a_tier_is_set_with_who_and_why(limited: Harness) -> None:
    """A tier of the settings limits the customer's wallets from then on; no other is taken."""
    customer = await limited.customer(900)
    assert (await refusal_of(limited.pay(customer, 101))).reason == "LIMIT_EXCEEDED"

    said = await wallet(limited, "tier", customer, "verified", "--why", "papers", "--by", "asha")

    assert said == f"{customer}: tier verified\n"
    told = await wallet(
        limited, "tier", customer, "verified", "--why", "papers", "--by", "asha", "--json"
    )
    assert json.loads(told) == {"customer_id": customer, "tier": "verified"}
    await limited.pay(customer, 101)
    assert "SET_TIER tier verified by asha: papers" in await wallet(limited, "show", customer)
    unknown = await wallet(limited, "tier", customer, "golden", "--why", "asked", status=2)
    assert "WALLET_LIMITS has no tier golden, but default, verified." in unknown


async def test_what_cannot_be_done_is_told(limited: Harness) -> None:
    """No wallet, no customer, no reason, no currency: each is refused in words."""
    customer = await limited.customer()
    for arguments, says in (
        (("freeze", customer, "INR", "--why", "a doubt"), "has no INR wallet"),
        (("freeze", customer, "inr", "--why", "a doubt"), "ISO 4217"),
        (("freeze", customer, "INR", "--why", " "), "Say why"),
        (("unfreeze", customer, "INR", "--why", "a doubt"), "has no INR wallet"),
        (("tier", "nobody", "verified", "--why", "a doubt"), "There is no customer nobody"),
    ):
        assert says in await wallet(limited, *arguments, status=2)


async def test_credits_beyond_a_limit_are_listed(limited: Harness) -> None:
    """Without any the list says so, in words and as JSON."""
    assert await wallet(limited, "beyond-limits") == "no top-up was credited beyond a limit\n"
    assert json.loads(await wallet(limited, "beyond-limits", "--json")) == []
