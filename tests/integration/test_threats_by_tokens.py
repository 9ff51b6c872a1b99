"""Each threat by forged and stolen tokens in the threat model, tried through the real door.

A test has the name of its row in `docs/concepts/threat-model.md`.
"""

from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr
from test_books import busy_customer
from test_customer_tokens import limited_to
from test_transport import running_secure

from certificate_bench import channel_credentials
from harness import (
    Harness,
    bearer,
    event_of,
    eventually,
    inr,
    payment_of,
    refusal_of,
    token,
    unique,
)
from key_bench import LET_IN, SigningKey, forged, trusting, write_keys
from wallet_payment.v1 import wallet_payment_service_pb2 as service


async def pay_reason(harness: Harness, metadata: Any) -> str:
    """Try a payment of a customer who has money; return the reason of the refusal."""
    customer = await harness.customer(100)
    request = service.PayWithWalletRequest(
        customer_id=customer,
        order_id=unique("order"),
        amount=inr(100),
        idempotency_key=unique("key"),
    )
    refused = await refusal_of(harness.call("PayWithWallet", request, metadata=metadata))
    assert await harness.balance(customer) == 100
    return refused.reason


async def test_threat_forged_token(harness: Harness) -> None:
    """Unsigned, signed by a stranger, for another audience, from another issuer: no token."""
    good = token()
    head, claims, _ = good.split(".")
    for wrong in (
        "",
        "x.y.z",
        f"{head}.{claims}.",
        good[:-2] + ("AA" if good[-2:] != "AA" else "BB"),
        SigningKey("test").token(),
        token(aud="another"),
        token(iss="another"),
    ):
        assert await pay_reason(harness, bearer(wrong)) == "TOKEN_INVALID"


async def test_threat_algorithm_confusion(harness: Harness, tmp_path: Path) -> None:
    """A public key is no shared secret, and `none` is no algorithm, also where HS256 is allowed."""
    key = SigningKey("rsa", "RS256", rsa.generate_private_key(65537, 2048))
    public = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    good = key.token()
    claims = jwt.decode(good, options={"verify_signature": False})
    keys = SecretStr(write_keys(tmp_path / "keys.json", [key]))
    algorithms = ("RS256", "HS256")
    async with trusting(harness, jwt_keys=keys, jwt_algorithms=algorithms) as server:
        for header, secret in (
            ({"alg": "HS256", "kid": "rsa"}, public),
            ({"alg": "RS256", "kid": "rsa"}, public),
            ({"alg": "HS256"}, public),
            ({"alg": "none", "kid": "rsa"}, None),
        ):
            assert await server.says(forged(header, claims, secret)) == "TOKEN_INVALID"
        assert await server.says(good) == LET_IN


async def test_threat_expired_token(harness: Harness) -> None:
    """A token that was good an hour ago pays nothing."""
    assert await pay_reason(harness, bearer(token(iat=1, exp=2))) == "TOKEN_EXPIRED"


async def test_threat_revoked_token(harness: Harness, tmp_path: Path) -> None:
    """A stolen token ends where it is used, once it is in the list, though it was let in."""
    revoked = tmp_path / "revoked.txt"
    revoked.touch()
    stolen = token(jti="stolen-1")
    given = {"jwt_revoked": str(revoked), "jwt_algorithms": ("HS256",)}
    async with trusting(harness, **given) as server:
        assert await server.says(stolen) == LET_IN
        revoked.write_text("stolen-1\n")

        async def is_out() -> bool:
            return await server.says(stolen) == "TOKEN_REVOKED"

        await eventually(is_out)


async def test_threat_token_without_the_scope(harness: Harness) -> None:
    """A token that reads, or has a longer or shorter scope of the same beginning, pays nothing."""
    for scope in ("", "status.read", "payment", "payment.write.all", "PAYMENT.WRITE", "*"):
        assert await pay_reason(harness, bearer(token(scope=scope))) == "SCOPE_MISSING"


async def test_threat_token_of_another_customer(harness: Harness) -> None:
    """A customer's own token, with every scope, does not reach another customer's wallet."""
    assert await pay_reason(harness, **limited_to(unique("thief"))) == "CUSTOMER_NOT_ALLOWED"


async def test_threat_token_on_another_connection(harness: Harness, tmp_path: Path) -> None:
    """A token that was stolen is of no use beside another caller's certificate."""
    names = ("order-service=spiffe://shop/order-service",)
    async with running_secure(harness, tmp_path, grpc_subject_names=names) as secure:
        thief = channel_credentials(secure.authority.pem, secure.authority.caller("reports"))
        assert await secure.attempt(thief) == "CERTIFICATE_MISMATCH"


async def test_threat_enumeration_by_a_limited_token(harness: Harness) -> None:
    """Customers, top-ups and orders that exist and that do not are refused in the same words."""
    mine, other = await harness.customer(), await harness.customer(100)
    theirs = await harness.initiate(other, 100)
    order = (await harness.pay(other, 100)).payment.order_id

    for known, unknown in (
        (
            service.GetStatusRequest(customer_id=other),
            service.GetStatusRequest(customer_id=unique("nobody")),
        ),
        (
            service.GetTopupRequest(customer_id=mine, topup_id=theirs.topup_id),
            service.GetTopupRequest(customer_id=mine, topup_id=theirs.topup_id[:-4] + "zzzz"),
        ),
        (
            service.GetOrderPaymentRequest(customer_id=mine, order_id=order),
            service.GetOrderPaymentRequest(customer_id=mine, order_id=unique("order")),
        ),
    ):
        method = type(known).__name__.removesuffix("Request")
        told = [
            await refusal_of(harness.call(method, request, **limited_to(mine)))
            for request in (known, unknown)
        ]
        assert told[0] == told[1]
        assert told[0].reason == "CUSTOMER_NOT_ALLOWED"


async def test_threat_forged_page_token_or_cursor(harness: Harness) -> None:
    """A place in one customer's list or feed, changed or taken elsewhere, is no place at all."""
    customer, other = await busy_customer(harness), await busy_customer(harness)
    listed = service.ListTransactionsRequest(customer_id=customer, page_size=2)
    page = (await harness.call("ListTransactions", listed)).next_page_token
    feed = harness.stub.WatchEvents(
        service.WatchEventsRequest(customer_id=customer), metadata=harness.metadata, timeout=30
    )
    cursor = (await feed.read()).cursor
    feed.cancel()

    for who, wrong in ((customer, page[:-4] + "AAAA"), (other, page), (customer, cursor)):
        listed = service.ListTransactionsRequest(customer_id=who, page_token=wrong)
        assert (await refusal_of(harness.call("ListTransactions", listed))).fields == (
            "page_token",
        )
    for who, wrong in ((customer, cursor[:-4] + "AAAA"), (other, cursor), (customer, page)):
        watching = harness.stub.WatchEvents(
            service.WatchEventsRequest(customer_id=who, cursor=wrong), metadata=harness.metadata
        )
        assert (await refusal_of(watching.read())).fields == ("cursor",)


async def test_threat_taken_sidecar(harness: Harness) -> None:
    """Who holds all that the sidecar holds reads nothing, pays nothing and forges no webhook."""
    stolen = bearer(harness.sidecar_token)
    assert await pay_reason(harness, stolen) == "SCOPE_MISSING"

    topup = await harness.initiate(await harness.customer(), 1_000)
    body = event_of("payment.captured", payment_of(topup))
    signed = service.Header(name="X-Razorpay-Signature", value="0" * 64)
    request = service.ForwardWebhookRequest(gateway="razorpay", headers=[signed], body=body)
    request.receive_time.GetCurrentTime()
    refused = await refusal_of(harness.call("ForwardWebhook", request, metadata=stolen))
    assert refused.reason == "SIGNATURE_INVALID"
    assert await harness.balance(topup.customer_id) == 0
