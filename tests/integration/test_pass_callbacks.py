"""Google Wallet's callbacks about passes: verified, recorded once, and nothing more."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway_adapters.sandbox.google_pay_signing import (
    GooglePayKeys,
    card_message,
    kept_keys,
    pass_callback,
    payment_token,
)
from harness import Harness, eventually, running_harness, unique
from server.cli.sandbox_wallets import GOOGLE_ISSUER_ID, GOOGLE_RECIPIENT

Json = dict[str, Any]


@pytest.fixture(scope="module")
async def shop(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service that takes callbacks for the sandbox's issuer."""
    async with running_harness(mongodb_uri, has_wallets=True) as running:
        yield running


def now_ms() -> int:
    """Return the time in UTC milliseconds."""
    return time.time_ns() // 1_000_000


def keys_of(shop: Harness) -> GooglePayKeys:
    """Return the keys of the sandbox's Google."""
    google = shop.wallets.google_pay
    return kept_keys(google.folder, google.merchant_key_file)


def callback(
    shop: Harness, issuer_id: str = GOOGLE_ISSUER_ID, expires_in_ms: int = 60_000, **changes: Any
) -> Json:
    """Return a callback as Google signs it; `changes` are keys in the place of Google's own."""
    said = {
        "classId": f"{issuer_id}.loyalty",
        "objectId": f"{issuer_id}.card-1",
        "expTimeMillis": now_ms() + expires_in_ms,
        "eventType": "save",
        "nonce": unique("nonce"),
    }
    body: Json = json.loads(
        pass_callback(replace(keys_of(shop), **changes), issuer_id, said, now_ms())
    )
    return body


def payment_token_of(shop: Harness) -> str:
    """Return what Google signs, too, and is no callback."""
    card = card_message(now_ms() + 60_000)
    return payment_token(keys_of(shop), GOOGLE_RECIPIENT, card, now_ms())


def nonce_of(body: Json) -> str:
    """Return what tells a callback again."""
    nonce: str = json.loads(body["signedMessage"])["nonce"]
    return nonce


async def deliver(shop: Harness, body: Json, **options: Any) -> tuple[int, Json]:
    """Send a callback to the sidecar as Google does."""
    written = json.dumps(body, **options).encode()
    return await shop.deliver(written, gateway="google-pay")


async def recorded(shop: Harness) -> list[Json]:
    """Return all callbacks that were recorded."""
    events: list[Json] = await shop.database.gateway_events.find({"gateway": "google-pay"}).to_list(
        None
    )
    return events


async def test_a_callback_is_recorded_once_and_changes_nothing(shop: Harness) -> None:
    """The same callback many times at once, also in other envelopes: one record, always 200."""
    body = callback(shop)

    answers = await asyncio.gather(
        *(deliver(shop, body, indent=indent) for indent in (None, None, 1, 2, 3, 4))
    )

    assert {status for status, _ in answers} == {200}
    assert Counter(answer["outcome"] for _, answer in answers) == {"IGNORED": 1, "DUPLICATE": 5}
    assert {answer["event_id"] for _, answer in answers} == {nonce_of(body)}
    (event,) = [one for one in await recorded(shop) if one["event_id"] == nonce_of(body)]
    assert (event["event_type"], event["outcome"]) == ("pass.save", "IGNORED")
    assert json.loads(event["body"]) == body
    assert "amount" not in event
    assert "topup_id" not in event


async def test_the_sandboxs_google_tells_of_a_pass(shop: Harness) -> None:
    """A pass that a customer deletes is told through the sidecar, over real HTTP."""
    told = await shop.at_sandbox("google-pay/callback", event="del", duplicate=2)

    async def arrived() -> list[Json]:
        return [one for one in await recorded(shop) if one["event_id"] in told["event_ids"]]

    (event,) = await eventually(arrived)
    assert event["event_type"] == "pass.del"


def flip_signature(body: Json) -> None:
    """Change a bit of the message's signature."""
    signature = body["signature"]
    body["signature"] = signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]


def flip_message(body: Json) -> None:
    """Change a letter of what is said."""
    body["signedMessage"] = body["signedMessage"].replace('"save"', '"sawe"')


def flip_key(body: Json) -> None:
    """Change when the intermediate key expires."""
    key = body["intermediateSigningKey"]
    key["signedKey"] = key["signedKey"].replace('"keyExpiration": "1', '"keyExpiration": "2')


def new_version(body: Json) -> None:
    """Say another version."""
    body["protocolVersion"] = "ECv2"


@pytest.mark.parametrize(
    "change", [flip_signature, flip_message, flip_key, new_version, dict.clear]
)
async def test_a_changed_callback_leaves_no_trace(
    shop: Harness, change: Callable[[Json], object]
) -> None:
    """One flipped bit: 401, and nothing is recorded."""
    body = callback(shop)
    before = await recorded(shop)
    change(body)

    status, answer = await deliver(shop, body)

    assert (status, answer["error"]["reason"]) == (401, "SIGNATURE_INVALID")
    assert await recorded(shop) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda shop: callback(shop, issuer_id="somebody-else"),
        lambda shop: callback(shop, expires_in_ms=-1),
        lambda shop: callback(shop, passes_root=ec.generate_private_key(ec.SECP256R1())),
        lambda shop: json.loads(payment_token_of(shop)),
    ],
    ids=["issuer", "expired", "root", "a payment's token"],
)
async def test_a_callback_that_is_not_for_us_leaves_no_trace(
    shop: Harness, make: Callable[[Harness], Json]
) -> None:
    """For another issuer, past its time, by another root, or no callback: 401, and no record."""
    before = await recorded(shop)

    status, answer = await deliver(shop, make(shop))

    assert (status, answer["error"]["reason"]) == (401, "SIGNATURE_INVALID")
    assert await recorded(shop) == before


async def test_without_googles_keys_a_callback_has_to_come_again(mongodb_uri: str) -> None:
    """Nobody can tell whether it is good: 503 with Retry-After, and nothing is recorded."""
    async with running_harness(
        mongodb_uri, has_wallets=True, google_pay_keys_url="http://127.0.0.1:9/keys"
    ) as running:
        before = await recorded(running)

        status, answer = await deliver(running, callback(running))

        assert (status, answer["error"]["reason"]) == (503, "UNAVAILABLE")
        assert await recorded(running) == before
