"""Encryption at rest: what is stored, what opens, what a wrong key gives, and rotation."""

import base64
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from bson import BSON, Binary

from harness import (
    Harness,
    another_server,
    event_of,
    inr,
    outcomes_of,
    payment_of,
    refusal_of,
    running_harness,
    signature_of,
    unique,
    with_database,
)
from server.app import running_server
from server.config import SettingsError, load_settings
from server.encryption_keys import EncryptionKey
from server.store import encryption_rotation, schema
from server.store.connection import connect, find
from server.store.encryption import ENVELOPE, Encryption, EncryptionError
from server.store.encryption_rotation import Rotated, rotate
from server.store.queries import MongoGatewayRecords
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

CARD = "4111111111111111"
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbnlib2R5In0.c2lnbmF0dXJl"
SECRET = "a-secret-that-nobody-may-read"


def written(key_id: str, letter: str) -> str:
    """Return a key as the setting takes it."""
    return f"{key_id}:{base64.b64encode(letter.encode() * 32).decode()}"


OLD, NEW = written("old", "o"), written("new", "n")


def encryption(*keys: tuple[str, str]) -> Encryption:
    """Return what opens and seals with keys of these ids and letters."""
    return Encryption([EncryptionKey(name, letter.encode() * 32) for name, letter in keys])


@pytest.fixture
async def encrypting(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service with a key, on a database of its own."""
    uri = with_database(mongodb_uri, unique("encryption"))
    async with running_harness(uri, encryption_keys=OLD) as running:
        yield running


async def everything_in(harness: Harness) -> bytes:
    """Return every byte of every document of the database."""
    names = await harness.database.list_collection_names()
    assert {"wallet_transactions", "topups", "gateway_events", "integration_logs"} <= set(names)
    found = []
    for name in names:
        documents = await harness.database[name].find().to_list(None)
        # Decoded and written again, all strings stand as they are; binary values stand as bytes.
        found += [bytes(BSON.encode(document)) for document in documents]
    return b"".join(found)


async def test_metadata_and_events_are_encrypted_and_read_as_they_were(
    encrypting: Harness,
) -> None:
    """Callers and operators read what was written; the database has neither notes nor bodies."""
    customer = await encrypting.customer(1_000)
    notes = {"cart": SECRET, "empty": ""}
    key = unique("key")
    first = await encrypting.pay(customer, 10, "order-e", idempotency_key=key, metadata=notes)
    again = await encrypting.pay(customer, 10, "order-e", idempotency_key=key, metadata=notes)
    topup = await encrypting.initiate(customer, 500, metadata=notes)
    body = event_of("payment.captured", payment_of(topup, amount=400, email=SECRET))
    await encrypting.deliver(body, "evt-encrypted")

    assert first == again
    assert dict(first.transaction.metadata) == notes
    assert dict((await encrypting.topup(topup)).metadata) == notes
    with connect(encrypting.settings.mongodb_uri.get_secret_value()) as database:
        records = MongoGatewayRecords(database, encryption(("old", "o")))
        bodies = [event.received.body for event in await records.waiting(10)]
    assert bodies == [body]
    stored = await encrypting.database.wallet_transactions.find_one({"order_id": "order-e"})
    assert stored["metadata"].keys() == notes.keys()
    assert {value.subtype for value in stored["metadata"].values()} == {ENVELOPE}
    assert SECRET.encode() not in await everything_in(encrypting)


async def test_a_value_opens_in_its_own_place_and_with_its_own_key_alone(
    encrypting: Harness,
) -> None:
    """Moved, altered, or under another key of the same id: an error that names no value."""
    customer = await encrypting.customer(1_000)
    paid = await encrypting.pay(customer, 10, metadata={"a": SECRET, "b": "another"})
    [document] = await encrypting.database.wallet_transactions.find(
        {"_id": paid.transaction.transaction_id}
    ).to_list(None)
    values = document["metadata"]
    right, name = encryption(("old", "o")), "wallet_transactions"
    assert right.opened(name, [document])[0]["metadata"] == {"a": SECRET, "b": "another"}

    swapped = document | {"metadata": {"a": values["b"], "b": values["a"]}}
    moved = document | {"_id": "txn_another"}
    altered = Binary(values["a"][:-1] + bytes([values["a"][-1] ^ 1]), ENVELOPE)
    later = Binary(b"\x02" + values["a"][1:], ENVELOPE)
    for keys, wrong in (
        (right, swapped),
        (right, moved),
        (right, document | {"metadata": {"a": altered}}),
        (right, document | {"metadata": {"a": later}}),
        (right, document | {"metadata": {"a": Binary(b"", ENVELOPE)}}),
        (encryption(("old", "x")), document),
        (encryption(("new", "o")), document),
        (Encryption(), document),
    ):
        with pytest.raises(EncryptionError) as refused:
            keys.opened(name, [wrong])
        assert SECRET not in str(refused.value)
    with pytest.raises(EncryptionError):
        right.opened("topups", [document])


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("", "key 'old', which is not among WALLET_ENCRYPTION_KEYS"),
        (NEW, "key 'old', which is not among WALLET_ENCRYPTION_KEYS"),
        (written("old", "x"), "key 'old' is not the one of this id"),
    ],
    ids=["none", "another", "wrong"],
)
async def test_a_server_does_not_start_with_a_missing_or_wrong_key(
    encrypting: Harness, keys: str, says: str
) -> None:
    """It would answer with errors or garbage later: it says at once which key is needed."""
    given = {"encryption_keys": load_settings(encryption_keys=keys).encryption_keys}
    settings = encrypting.settings.model_copy(update=given)

    with pytest.raises(EncryptionError, match=says):
        async with running_server(settings):
            pass


async def test_rotation_encrypts_everything_anew_while_servers_go_on(
    mongodb_uri: str,
) -> None:
    """Plain values and those under an older key are re-encrypted; the old key is set free."""
    uri = with_database(mongodb_uri, unique("rotation"))
    async with running_harness(uri) as plain:
        customer = await plain.customer(1_000)
        await plain.pay(customer, 10, "order-plain", metadata={"note": SECRET})
        topup = await plain.initiate(customer, 500, metadata={"note": SECRET})
        await plain.deliver(event_of("payment.captured", payment_of(topup, amount=400)))
        assert SECRET.encode() in await everything_in(plain)

        both = load_settings(encryption_keys=f"{NEW},{OLD}").encryption_keys
        old = load_settings(encryption_keys=OLD).encryption_keys
        async with another_server(plain, encryption_keys=old) as stub:
            request = service.PayWithWalletRequest(
                customer_id=customer,
                order_id="order-old",
                amount=inr(20),
                idempotency_key=unique("key"),
                metadata={"note": SECRET},
            )
            await stub.PayWithWallet(request, metadata=plain.metadata, timeout=20)

        with connect(plain.settings.mongodb_uri.get_secret_value()) as database:
            keys = encryption(("new", "n"), ("old", "o"))
            await database.service_settings.insert_one(
                {"_id": "encryption_rotation", "to": "new", "collection": "topups", "last_id": ""}
            )
            rotated = await rotate(database, keys)
            assert rotated.changed >= 4
            assert rotated.unused_keys == ("old",)
            assert await rotate(database, keys) == Rotated(0, 0, (), ())
        assert SECRET.encode() not in await everything_in(plain)

        async with another_server(plain, encryption_keys=both) as stub:
            answer = await stub.ListTransactions(
                service.ListTransactionsRequest(customer_id=customer, page_size=10),
                metadata=plain.metadata,
                timeout=20,
            )
            again = await stub.PayWithWallet(request, metadata=plain.metadata, timeout=20)
        notes = [dict(one.metadata) for one in answer.transactions if one.order_id]
        assert notes == [{"note": SECRET}, {"note": SECRET}]
        assert dict(again.transaction.metadata) == {"note": SECRET}


async def test_rotation_leaves_what_a_server_wrote_meanwhile(
    mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that changes between its reading and its writing is not put back as it was."""
    old, keys = encryption(("old", "o")), encryption(("new", "n"), ("old", "o"))
    with connect(with_database(mongodb_uri, unique("meanwhile"))) as database:
        letters: Any = database[schema.DEAD_LETTERS]
        letter: dict[str, Any] = {"_id": "evt_1", "body": b"before"}
        await letters.insert_one(old.sealed(schema.DEAD_LETTERS, letter))

        async def find_and_write(*arguments: Any, **options: Any) -> Any:
            found = await find(*arguments, **options)
            if found and arguments[1] == schema.DEAD_LETTERS:
                monkeypatch.setattr(encryption_rotation, "find", find)
                written = old.sealed(schema.DEAD_LETTERS, letter | {"body": b"after"})
                await letters.replace_one({"_id": "evt_1"}, written)
            return found

        monkeypatch.setattr(encryption_rotation, "find", find_and_write)
        await rotate(database, keys)

        stored = await letters.find_one({"_id": "evt_1"})
        assert encryption(("new", "n")).opened(schema.DEAD_LETTERS, [stored]) == [
            {"_id": "evt_1", "body": b"after"}
        ]
        await database.client.drop_database(database.name)


async def test_rotation_names_what_does_not_open_and_goes_on_with_the_rest(
    mongodb_uri: str,
) -> None:
    """An altered value, one whose key is lost, and a number put by hand hold up nothing else."""
    old, lost = encryption(("old", "o")), encryption(("lost", "l"))
    keys = encryption(("new", "n"), ("old", "o"))
    with connect(with_database(mongodb_uri, unique("unopened"))) as database:
        await encryption_rotation.check_keys(database, old)
        letters: Any = database[schema.DEAD_LETTERS]
        good = {"_id": "evt_1", "body": b"good"}
        altered = old.sealed(schema.DEAD_LETTERS, {"_id": "evt_2", "body": b"other"})
        by_hand = {"_id": "evt_4", "body": 7}
        await letters.insert_many(
            [
                by_hand,
                lost.sealed(schema.DEAD_LETTERS, {"_id": "evt_3", "body": b"lost"}),
                altered | {"_id": "evt_0"},
                old.sealed(schema.DEAD_LETTERS, good),
            ]
        )

        rotated = await rotate(database, keys)

        assert (rotated.changed, rotated.unopened, rotated.unused_keys) == (1, 3, ())
        assert [problem.partition(":")[0].partition(",")[0] for problem in rotated.problems] == [
            "outgoing_dead_letters evt_0 body does not open with key 'old'",
            "outgoing_dead_letters evt_3 body is encrypted with key 'lost'",
            "outgoing_dead_letters evt_4 body is no text",
        ]
        stored = await letters.find_one({"_id": "evt_1"})
        assert encryption(("new", "n")).opened(schema.DEAD_LETTERS, [stored]) == [good]
        await letters.delete_many({"_id": {"$ne": "evt_1"}})
        assert await rotate(database, keys) == Rotated(0, 0, (), ("old",))
        await database.client.drop_database(database.name)


def calls_with(customer: str, topup: resources.Topup, what: str) -> list[tuple[str, Any]]:
    """Return calls that have `what` at every place where a caller can write a text."""
    money, key = inr(100), unique("key")
    start: dict[str, Any] = {
        "customer_id": customer,
        "amount": money,
        "gateway": "razorpay",
        "method": "card",
    }
    pay: dict[str, Any] = {"customer_id": customer, "amount": money}
    refund: dict[str, Any] = {"customer_id": customer, "order_id": "order-doors"}
    proof: dict[str, Any] = {"customer_id": customer, "topup_id": topup.topup_id}
    razorpay = service.RazorpayProof(payment_id=f"pay_{what}", signature=what)
    return [
        ("InitiateTopup", service.InitiateTopupRequest(**start, idempotency_key=what)),
        (
            "InitiateTopup",
            service.InitiateTopupRequest(**start, idempotency_key=key, metadata={"card": what}),
        ),
        (
            "InitiateTopup",
            service.InitiateTopupRequest(
                **start, idempotency_key=key, return_url=f"https://shop.example/{what}"
            ),
        ),
        ("InitiateTopup", service.InitiateTopupRequest(**start | {"method": what})),
        ("InitiateTopup", service.InitiateTopupRequest(**start | {"gateway": what})),
        ("PayWithWallet", service.PayWithWalletRequest(**pay, idempotency_key=what)),
        (
            "PayWithWallet",
            service.PayWithWalletRequest(
                **pay, order_id=unique("o"), idempotency_key=key, metadata={"card": f"x {what}"}
            ),
        ),
        ("RefundToWallet", service.RefundToWalletRequest(**refund, idempotency_key=what)),
        (
            "RefundToWallet",
            service.RefundToWalletRequest(**refund, idempotency_key=key, reason=f"to {what}"),
        ),
        ("VerifyTopup", service.VerifyTopupRequest(**proof, razorpay=razorpay)),
        (
            "VerifyTopup",
            service.VerifyTopupRequest(**proof, google_pay=service.GooglePayProof(token=what)),
        ),
        (
            "ListTransactions",
            service.ListTransactionsRequest(customer_id=customer, page_token=what),
        ),
        (
            "ForwardWebhook",
            service.ForwardWebhookRequest(
                gateway="razorpay",
                headers=[service.Header(name="X-Card", value=what)],
                body=what.encode(),
            ),
        ),
    ]


async def test_no_card_number_is_kept_or_logged_whichever_door_it_comes_by(
    encrypting: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """At every place for a text a card number is refused, or encrypted, or not kept at all."""
    caplog.set_level(logging.DEBUG)
    customer = await encrypting.customer(1_000)
    await encrypting.pay(customer, 100, "order-doors")
    topup = await encrypting.initiate(customer, 500)

    answers = []
    for what in (CARD, "4111 1111 1111 1111"):
        metadata = (*encrypting.metadata, ("x-correlation-id", what))
        calls = [
            encrypting.call(method, request, metadata=metadata)
            for method, request in calls_with(customer, topup, what)
        ]
        answers += await outcomes_of(calls)
        body = event_of("payment.captured", payment_of(topup, amount=400, card={"number": what}))
        for signature in (signature_of(body), "0" * 64):
            answers.append(
                await encrypting.deliver(body, X_Card=what, X_Razorpay_Signature=signature)
            )

    kept = await everything_in(encrypting)
    for found in (CARD, "4111 1111 1111 1111"):
        assert found.encode() not in kept
        assert found not in caplog.text
        assert found not in repr(answers)
    assert caplog.text


async def test_a_card_number_in_metadata_is_refused_by_its_field(encrypting: Harness) -> None:
    """The reason is INVALID_ARGUMENT with the field; the number is not told back."""
    customer = await encrypting.customer(100)

    value = await refusal_of(encrypting.pay(customer, 1, metadata={"note": f"card {CARD}"}))
    name = await refusal_of(encrypting.pay(customer, 1, metadata={CARD: "mine"}))

    for refusal, field in ((value, "metadata.note"), (name, "metadata")):
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_ARGUMENT",
        )
        assert refusal.fields == (field,)
        assert CARD not in repr(refusal)


async def test_tokens_and_secrets_are_neither_logged_nor_stored_in_the_clear(
    encrypting: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """A token as metadata, as proof, in a webhook, or as the call's own, shows nowhere."""
    caplog.set_level(logging.DEBUG)
    customer = await encrypting.customer(1_000)
    topup = await encrypting.initiate(customer, 500, metadata={"token": TOKEN, "secret": SECRET})
    await encrypting.pay(customer, 10, metadata={"token": TOKEN})
    body = event_of("payment.captured", payment_of(topup, amount=400, notes=[TOKEN, SECRET]))
    await encrypting.deliver(body, X_Token=TOKEN)
    proof = service.GooglePayProof(token=json.dumps({"signedMessage": TOKEN}))
    request = service.VerifyTopupRequest(
        customer_id=customer, topup_id=topup.topup_id, google_pay=proof
    )
    await outcomes_of(
        [
            encrypting.call("VerifyTopup", request),
            encrypting.call("VerifyTopup", request, metadata=(("authorization", TOKEN),)),
        ]
    )

    kept = await everything_in(encrypting)
    own = dict(encrypting.metadata)["authorization"].removeprefix("Bearer ")
    keys = encrypting.settings.encryption_keys.get_secret_value().partition(":")[2]
    for found in (TOKEN, SECRET, own, keys):
        assert found.encode() not in kept
        assert found not in caplog.text


@pytest.mark.parametrize("text", ["old", "old:short", f"{OLD},{OLD}", f"ö:{OLD[4:]}"])
def test_a_wrong_key_setting_is_refused_without_showing_it(text: str) -> None:
    """What is no key, and an id that is given twice, stop the start."""
    with pytest.raises(SettingsError) as refused:
        load_settings(encryption_keys=text)

    assert "WALLET_ENCRYPTION_KEYS" in str(refused.value)
    assert OLD[4:] not in str(refused.value)


def provided() -> str:
    """Return keys, as a provider does."""
    return f"{NEW},{OLD}"


def test_keys_come_from_a_provider() -> None:
    """A function that is named gives the keys; one that is not there stops the start."""
    given = load_settings(encryption_key_provider=f"{__name__}:provided")

    assert [key.key_id for key in given.encryption()] == ["new", "old"]
    assert "nnnn" not in repr(given.encryption())
    with pytest.raises(SettingsError, match="WALLET_ENCRYPTION_KEY_PROVIDER"):
        load_settings(encryption_key_provider="no.such:function")
