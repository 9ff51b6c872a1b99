"""Keys that sign tokens in tests, a key server to publish them, and a server that trusts them."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import jwt
from aiohttp import ClientSession, web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from prometheus_client.parser import text_string_to_metric_families

from harness import ALL_SCOPES, Harness, bearer, refused
from server.app import running_server
from server.listening import address_of, bind, http_server
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

LET_IN = "OK"


@dataclass(frozen=True)
class SigningKey:
    """A private key with its name."""

    key_id: str
    algorithm: str = "ES256"
    private: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def public(self, **fields: Any) -> dict[str, Any]:
        """Return the public half as a JSON Web Key; `fields` change it, None removes."""
        written = _WRITERS[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        key = written | {"kid": self.key_id, "alg": self.algorithm} | fields
        return {name: value for name, value in key.items() if value is not None}

    def token(self, **claims: Any) -> str:
        """Return a token of the order service with every scope; `claims` change it."""
        now = int(time.time())
        given = {
            "iss": "wallet-payment",
            "aud": "wallet-payment",
            "sub": "order-service",
            "iat": now,
            "exp": now + 600,
            "scope": ALL_SCOPES,
        } | claims
        return jwt.encode(given, self.private, self.algorithm, headers={"kid": self.key_id})


_WRITERS: dict[str, Any] = {
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
    "RS256": jwt.algorithms.RSAAlgorithm,
}


def keys_of_each_kind() -> list[SigningKey]:
    """Return a key for each algorithm that is accepted by default."""
    return [
        SigningKey("elliptic"),
        SigningKey("edwards", "EdDSA", ed25519.Ed25519PrivateKey.generate()),
        SigningKey("rsa", "RS256", rsa.generate_private_key(65537, 2048)),
    ]


def write_keys(file: Path, keys: Iterable[SigningKey]) -> str:
    """Write a file of public keys in one step; return the setting that names it."""
    replace_file(file, json.dumps({"keys": [key.public() for key in keys]}))
    return f"@{file}"


def replace_file(file: Path, text: str) -> None:
    """Replace a file in one step, as an operator's tool does."""
    made = file.with_suffix(".new")
    made.write_text(text)
    made.replace(file)


def forged(header: dict[str, Any], claims: dict[str, Any], key: bytes | None) -> str:
    """Return a token with any header, signed by HMAC with any bytes, or not at all."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, claims)
    ]
    message = b".".join(parts)
    signature = b"" if key is None else hmac.digest(key, message, hashlib.sha256)
    return (message + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


class KeyServer:
    """A key server that can be out of order; it counts how often it was asked."""

    def __init__(self) -> None:
        self.document: Any = {"keys": []}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.held: asyncio.Event | None = None
        self.asked = 0
        self.url = ""

    def publish(self, *keys: SigningKey) -> None:
        """Publish these keys and no others."""
        self.document = {"keys": [key.public() for key in keys]}

    async def answer(self, _: web.Request) -> web.Response:
        """Tell the keys."""
        self.asked += 1
        if self.held is not None:
            await self.held.wait()
        return web.json_response(self.document, status=self.status, headers=self.headers)


@asynccontextmanager
async def running_key_server() -> AsyncIterator[KeyServer]:
    """Run a key server on a free port."""
    server = KeyServer()
    app = web.Application()
    app.router.add_get("/keys", server.answer)
    bound = bind("127.0.0.1:0", "keys")
    async with http_server(web.AppRunner(app, access_log=None), bound):
        server.url = f"http://{address_of(bound)}/keys"
        yield server


class Trusting:
    """One more server on a harness's database, whose trust is a test's; on one live connection."""

    def __init__(self, grpc_address: str, metrics_url: str, stub: Any, http: ClientSession) -> None:
        self.grpc_address = grpc_address
        self.metrics_url = metrics_url
        self.stub = stub
        self._http = http

    async def says(self, token: str, customer_id: str = "nobody") -> str:
        """Ask for a customer's status; return the reason of the refusal, LET_IN where none is."""
        try:
            await self.stub.GetStatus(
                service.GetStatusRequest(customer_id=customer_id),
                metadata=bearer(token),
                timeout=20,
                wait_for_ready=True,
            )
        except grpc.aio.AioRpcError as error:
            reason = refused(error).reason
            return LET_IN if reason == "CUSTOMER_NOT_FOUND" else reason
        return LET_IN

    async def metric(self, name: str, **labels: str) -> float:
        """Return the value of a metric."""
        return await metric_at(self._http, self.metrics_url, name, **labels)


async def metric_at(http: ClientSession, url: str, name: str, **labels: str) -> float:
    """Return the value of a metric that has these labels."""
    async with http.get(url) as answer:
        text = await answer.text()
    (value,) = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return value


@asynccontextmanager
async def trusting(harness: Harness, **changes: Any) -> AsyncIterator[Trusting]:
    """Run a server with changed settings; files are looked at all the time."""
    given = {"reload_seconds": 0.05, "jwt_algorithms": ("ES256", "EdDSA", "RS256")} | changes
    settings = harness.settings.model_copy(update=given)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(running_server(settings))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(running.grpc_address))
        stub = service_grpc.WalletPaymentServiceStub(channel)
        metrics_url = f"http://{running.metrics_address}/metrics"
        yield Trusting(running.grpc_address, metrics_url, stub, harness.http)
