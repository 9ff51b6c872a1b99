"""Each threat to what goes out, and to what passes by, in the threat model, over real sockets.

A test has the name of its row in `docs/concepts/threat-model.md`.
"""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from pydantic import SecretStr
from test_apple_pay_sheet import by_apple, create
from test_transport import CONNECTED, NO_CONNECTION, answer_of, running_secure

from certificate_bench import DAY, Authority, channel_credentials
from command_line import run_in_process
from harness import (
    Harness,
    jwt_keys,
    refusal_of,
    running_harness,
    token,
    unique,
    with_database,
)
from key_bench import LET_IN, SigningKey, running_key_server, trusting
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc


@asynccontextmanager
async def a_place() -> AsyncIterator[tuple[str, list[object]]]:
    """A port of this machine that nobody has to come to; give its host:port, and who came."""
    visits: list[object] = []

    def noted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(writer.get_extra_info("peername"))
        writer.close()

    async with await asyncio.start_server(noted, "127.0.0.1", 0) as server:
        yield "{}:{}".format(*server.sockets[0].getsockname()), visits


async def test_threat_certificate_url(harness: Harness) -> None:
    """A webhook of PayPal cannot have the server fetch a certificate from elsewhere."""
    async with a_place() as (address, visits):
        for url in (f"http://{address}/v1/notifications/certs/CERT-1", f"https://{address}/"):
            status, answer = await harness.deliver(
                b"{}",
                gateway="paypal",
                Paypal_Transmission_Id="69cd13f0-d67a-11e5-baa3-778b53f4ae55",
                Paypal_Transmission_Time="2026-11-25T01:00:00Z",
                Paypal_Transmission_Sig=base64.b64encode(bytes(256)).decode(),
                Paypal_Auth_Algo="SHA256withRSA",
                Paypal_Cert_Url=url,
            )
            assert (status, answer["error"]["reason"]) == (401, "SIGNATURE_INVALID")
    assert visits == []


async def test_threat_validation_url(mongodb_uri: str) -> None:
    """An app cannot have the merchant's certificate shown to anybody but Apple."""
    uri = with_database(mongodb_uri, unique("threats_apple"))
    async with running_harness(uri, has_wallets=True) as shop, a_place() as (address, visits):
        topup = await by_apple(shop)
        for url in (
            f"https://{address}/paymentservices/startSession",
            f"https://apple-pay-gateway.apple.com@{address}/paymentservices/startSession",
        ):
            refused = await refusal_of(create(shop, topup, validation_url=url))
            assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", ("validation_url",))
    assert visits == []


async def test_threat_redirect(harness: Harness) -> None:
    """What the key server answers cannot lead the server on to a host inside."""
    known, unknown = SigningKey("known"), SigningKey("unknown")
    keys = SecretStr(json.dumps({"keys": [known.public()]}))
    async with running_key_server() as publisher, a_place() as (address, visits):
        publisher.status, publisher.headers = 302, {"Location": f"http://{address}/keys"}
        async with trusting(harness, jwt_keys=keys, jwt_keys_url=publisher.url) as server:
            assert await server.says(unknown.token()) == "TOKEN_INVALID"
            assert await server.says(known.token()) == LET_IN
        assert publisher.asked > 0
    assert visits == []


@pytest.mark.parametrize(
    ("command", "variable"),
    [("serve", "WALLET_GRPC_ADDRESS"), ("sidecar", "WALLET_SIDECAR_ADDRESS")],
)
async def test_threat_plaintext_beyond_loopback(
    tmp_path: Path, command: str, variable: str
) -> None:
    """Neither process starts where somebody could listen, and each names what allows it."""
    environment = {
        "PATH": os.environ["PATH"],
        "WALLET_MONGODB_URI": "mongodb://127.0.0.1:1/wallet_payment",
        "WALLET_SIDECAR_TOKEN": token(),
        "WALLET_JWT_ALGORITHMS": "HS256",
        "WALLET_JWT_KEYS": json.dumps(jwt_keys()),
        variable: "0.0.0.0:0",
    }
    _, errors = await run_in_process(command, environment=environment, folder=tmp_path, status=2)
    assert variable.replace("ADDRESS", "PLAINTEXT") in errors


async def test_threat_bad_certificate(harness: Harness, tmp_path: Path) -> None:
    """Without TLS, without a certificate, or with a bad one nobody gets a connection."""
    async with running_secure(harness, tmp_path) as secure:
        roots, issue = secure.authority.pem, secure.authority.issue
        for shown in (
            None,
            issue("late", begins=-2 * DAY, ends=-DAY),
            issue("early", begins=DAY, ends=2 * DAY),
            Authority().caller("order-service"),
        ):
            assert await secure.attempt(channel_credentials(roots, shown)) == NO_CONNECTION
        async with grpc.aio.insecure_channel(secure.target) as channel:
            stub = service_grpc.WalletPaymentServiceStub(channel)
            assert await answer_of(stub) == NO_CONNECTION
        assert await secure.attempt(channel_credentials(roots, secure.caller)) == CONNECTED
