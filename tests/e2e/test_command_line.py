"""The command line as its users meet it: settings, tokens, refusals, the books, the demo."""

import json
from typing import Any

import jwt
import pytest
from bson import Int64

from command_line import run
from harness import Harness


def serving(**changes: str) -> dict[str, str]:
    """Return the environment of a production server, with changes."""
    secret = "c2VjcmV0LW9mLWF0LWxlYXN0LTMyLWJ5dGVzLWZvci10ZXN0cw"
    keys = {"keys": [{"kty": "oct", "kid": "a", "alg": "HS256", "k": secret}]}
    return {
        "WALLET_MONGODB_URI": "mongodb://127.0.0.1:1/wallet_payment?replicaSet=none",
        "WALLET_JWT_KEYS": json.dumps(keys),
        "WALLET_JWT_ALGORITHMS": "HS256",
    } | changes


async def test_config_lists_every_setting_and_shows_no_secret() -> None:
    """Each variable stands with its meaning; a secret shows only whether it is set."""
    output, _ = await run(
        "config",
        environment=serving(
            WALLET_RAZORPAY_KEY_ID="rzp_live_1",
            WALLET_RAZORPAY_KEY_SECRET="do-not-show-1",
            WALLET_RAZORPAY_WEBHOOK_SECRETS="do-not-show-2,do-not-show-3",
        ),
    )

    assert "WALLET_GRPC_ADDRESS=127.0.0.1:50051  (default)" in output
    assert "WALLET_RAZORPAY_KEY_ID=rzp_live_1  (set)" in output
    assert "WALLET_RAZORPAY_KEY_SECRET=(secret, set)  (set)" in output
    assert "do-not-show" not in output
    assert "c2Vjcm" not in output
    assert "mongodb://" not in output


async def test_config_tells_programs_the_same() -> None:
    """As JSON, each variable has its value, where that comes from, and its meaning."""
    output, _ = await run("config", "--json", environment=serving())

    listed = {one["variable"]: one for one in json.loads(output)}
    assert listed["WALLET_GRPC_ADDRESS"]["value"] == "127.0.0.1:50051"
    assert listed["WALLET_JWT_ALGORITHMS"]["source"] == "set"
    assert "c2Vjcm" not in output


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"WALLET_GRPC_ADDRESS": "nowhere"}, "WALLET_GRPC_ADDRESS"),
        ({"WALLET_GRPC_ADDRESS": "127.0.0.1:99999"}, "WALLET_GRPC_ADDRESS"),
        ({"WALLET_JWT_ALGORITHMS": "none"}, "WALLET_JWT_ALGORITHMS"),
        ({"WALLET_JWT_KEYS": "secret"}, "WALLET_JWT_KEYS"),
        ({"WALLET_JWT_KEYS": '{"keys": []}'}, "WALLET_JWT_KEYS"),
        ({"WALLET_JWT_KEYS": "@/no/such/file"}, "WALLET_JWT_KEYS"),
        ({"WALLET_JWT_KEYS": ""}, "WALLET_JWT_KEYS"),
        ({"WALLET_MONGODB_URI": ""}, "WALLET_MONGODB_URI"),
        ({"WALLET_MONGODB_URI": "localhost"}, "WALLET_MONGODB_URI"),
        ({"WALLET_RAZORPAY_KEY_ID": "rzp_live_1"}, "WALLET_RAZORPAY_KEY_SECRET"),
        ({"WALLET_COMMIT_LANES": "0"}, "WALLET_COMMIT_LANES"),
        ({"WALLET_AUDIT": "off"}, "WALLET_AUDIT"),
        ({"WALLET_LOG_LEVEL": "loud"}, "WALLET_LOG_LEVEL"),
    ],
)
async def test_a_wrong_setting_stops_the_start_and_is_named(
    changes: dict[str, str], named: str
) -> None:
    """`serve` ends with status 2 and one line that names the variable, and no trace."""
    output, errors = await run("serve", environment=serving(**changes), status=2)

    assert named in errors
    assert "Traceback" not in errors + output


@pytest.mark.parametrize(
    "changes",
    [
        {
            "WALLET_RAZORPAY_KEY_ID": "rzp_test_sandbox",
            "WALLET_RAZORPAY_KEY_SECRET": "development-x",
            "WALLET_RAZORPAY_WEBHOOK_SECRETS": "real",
        },
        {
            "WALLET_JWT_KEYS": json.dumps(
                {
                    "keys": [
                        {
                            "kty": "oct",
                            "kid": "development",
                            "alg": "HS256",
                            "k": "ZGV2ZWxvcG1lbnQtMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw",
                        }
                    ]
                }
            )
        },
    ],
)
async def test_serve_refuses_development_secrets(changes: dict[str, str]) -> None:
    """A secret made for development never serves unless it is said that this is development."""
    _, errors = await run("serve", environment=serving(**changes), status=2)

    assert "development secret" in errors
    assert "WALLET_DEVELOPMENT=true" in errors


async def test_a_token_is_signed_with_the_configured_key_and_holds_what_was_asked() -> None:
    """`token` prints one JSON Web Token with the subject and scopes given."""
    output, _ = await run(
        *("token", "--subject", "sidecar", "--scope", "webhook.forward", "--ttl", "60"),
        environment=serving(),
    )

    secret = "secret-of-at-least-32-bytes-for-tests"
    claims: dict[str, Any] = jwt.decode(
        output.strip(), secret, algorithms=["HS256"], audience="wallet-payment"
    )
    assert (claims["sub"], claims["scope"]) == ("sidecar", "webhook.forward")
    assert claims["exp"] - claims["iat"] == 60


async def test_sidecar_without_its_token_says_how_to_make_one() -> None:
    """The sidecar does not start without a token of its own."""
    _, errors = await run("sidecar", status=2)

    assert "WALLET_SIDECAR_TOKEN" in errors
    assert "wallet-payment token" in errors


async def test_books_verify_finds_and_names_one_altered_amount(harness: Harness) -> None:
    """An amount changed in the database is found, and wallet and transaction are named."""
    customer_id = await harness.customer(balance=1_000)
    payment = await harness.pay(customer_id, 400)
    name, uri = "altered", harness.settings.mongodb_uri.get_secret_value()
    copy = harness.database.client[name]
    for collection in ("wallets", "wallet_transactions", "orders", "topups"):
        for document in (
            await harness.database[collection].find({"customer_id": customer_id}).to_list(None)
        ):
            await copy[collection].insert_one(document)
    environment = {"WALLET_MONGODB_URI": uri.replace("/wallet_payment", f"/{name}")}
    output, _ = await run("books", "verify", environment=environment)
    assert "1 wallets, 2 transactions, INR 6.00 held: the books agree" in output

    await copy.wallet_transactions.update_one(
        {"_id": payment.transaction.transaction_id}, {"$set": {"amount": Int64(-300)}}
    )
    output, _ = await run("books", "verify", environment=environment, status=1)
    await harness.database.client.drop_database(name)

    assert customer_id in output
    assert payment.transaction.transaction_id in output
    assert "hash does not fit" in output
    assert "the books agree" not in output


async def test_a_database_that_does_not_answer_is_told() -> None:
    """Whoever cannot reach MongoDB hears which setting to look at, and nothing of the driver."""
    nobody = "mongodb://127.0.0.1:1/wallet_payment?replicaSet=none&serverSelectionTimeoutMS=200"

    _, errors = await run(
        "wallet", "show", "customer-1", environment={"WALLET_MONGODB_URI": nobody}, status=2
    )

    assert errors == "wallet-payment: MongoDB does not answer: check WALLET_MONGODB_URI.\n"


async def test_the_demo_shows_the_main_job() -> None:
    """`demo` needs nothing, goes through the main job, and proves the books."""
    output, _ = await run("demo")

    assert "wallet credited" in output
    assert "paying twice           refused" in output
    assert "books verified" in output
