"""PayPal's webhooks: certificates from a real https server, signatures over the raw bytes."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway_adapters.gateway import GatewayUnavailable, MalformedEvent, SignatureInvalid
from gateway_adapters.paypal import Paypal, PaypalSettings
from gateway_adapters.paypal.certificates import (
    KEPT_SECONDS,
    MAX_BYTES,
    MAX_KEPT,
    is_allowed,
    read_chain,
)
from gateway_adapters.paypal.signature import read_transmission, signed_message
from paypal_authority import NAME, NOW, Authority, Issued, serving

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors"
WEBHOOK_ID = "4JH86294D6297924G"
PATH = "/v1/notifications/certs/"
BODY = json.dumps({"id": "WH-1-1", "event_type": "SOME.EVENT", "resource": {}}).encode()

Answer = Callable[[web.Request], web.StreamResponse]


@dataclass
class Bench:
    """An adapter, and the server that it fetches certificates from."""

    paypal: Paypal
    settings: PaypalSettings
    session: ClientSession
    authority: Authority
    signer: Issued
    served: dict[str, bytes | Answer] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    now: datetime = NOW
    seconds: float = 0.0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer for a certificate."""
        certificate_id = request.match_info["certificate_id"]
        self.asked[certificate_id] += 1
        found = self.served.get(certificate_id, b"")
        if callable(found):
            return found(request)
        return web.Response(body=found) if found else web.Response(status=404)

    def url(self, certificate_id: str = "CERT-1") -> str:
        """Return where a certificate is."""
        return self.settings.certificate_url_prefix + certificate_id

    def headers(self, certificate_id: str = "CERT-1", body: bytes = BODY, **changes: str) -> Any:
        """Return the headers of a webhook that is signed as it should be, then changed."""
        return self.signer.headers(body, self.url(certificate_id), WEBHOOK_ID, **changes)

    async def is_taken(self, headers: dict[str, str], body: bytes = BODY) -> bool:
        """Tell whether a webhook passes."""
        try:
            await self.paypal.read_webhook(headers, body)
        except SignatureInvalid:
            return False
        return True

    def adapter(self, **changes: Any) -> Paypal:
        """Return another adapter with other settings."""
        return Paypal(
            self.session,
            replace(self.settings, **changes),
            now=lambda: self.now,
            clock=lambda: self.seconds,
        )


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Give a root."""
    return Authority()


@pytest.fixture(scope="module")
def signer(authority: Authority) -> Issued:
    """Give the certificate that signs webhooks."""
    return authority.issue()


@pytest.fixture
async def bench(authority: Authority, signer: Issued, tmp_path: Path) -> AsyncIterator[Bench]:
    """Give an adapter that fetches certificates over TLS from this machine."""
    async with AsyncExitStack() as stack:
        connector = TCPConnector(ssl=authority.client_context())
        session = await stack.enter_async_context(ClientSession(connector=connector))
        app = web.Application()
        context = authority.server_context(tmp_path)
        made: list[Bench] = []

        async def serve(request: web.Request) -> web.StreamResponse:
            return await made[0].serve(request)

        app.router.add_get(PATH + "{certificate_id}", serve)
        url = await stack.enter_async_context(serving(app, context))
        settings = PaypalSettings(
            "http://127.0.0.1:1",
            "client",
            "secret",
            WEBHOOK_ID,
            "sandbox",
            trust_anchors_pem=authority.pem,
            certificate_url_prefix=url + PATH,
        )
        bench = Bench(
            Paypal(session, settings), settings, session, authority, signer, {"CERT-1": signer.pem}
        )
        bench.paypal = bench.adapter()
        made.append(bench)
        yield bench


async def test_a_signed_webhook_is_read(bench: Bench) -> None:
    """What PayPal signed for this webhook passes, with its id and type."""
    event = await bench.paypal.read_webhook(bench.headers(), BODY)
    assert (event.event_id, event.event_type, event.fact) == ("WH-1-1", "SOME.EVENT", None)


async def test_a_signed_body_that_is_no_event_is_malformed(bench: Bench) -> None:
    """A signature says who wrote it, and not that it makes sense."""
    with pytest.raises(MalformedEvent):
        await bench.paypal.read_webhook(bench.headers(body=b"{"), b"{")


async def test_every_flipped_bit_of_the_body_breaks_the_signature(bench: Bench) -> None:
    """No single bit of the signed body can be changed."""
    headers = bench.headers()
    for position in range(len(BODY)):
        for bit in range(8):
            forged = bytearray(BODY)
            forged[position] ^= 1 << bit
            assert not await bench.is_taken(headers, bytes(forged))
    assert bench.asked == {"CERT-1": 1}


async def test_a_reserialised_body_does_not_fit_its_signature(bench: Bench) -> None:
    """The same JSON in other bytes is another body."""
    other = json.dumps(json.loads(BODY), separators=(",", ":")).encode()
    assert json.loads(other) == json.loads(BODY)
    assert not await bench.is_taken(bench.headers(), other)


async def test_a_signature_for_another_webhook_is_refused(bench: Bench) -> None:
    """What PayPal signed for somebody else's webhook says nothing to us."""
    other = bench.adapter(webhook_id="4JH86294D6297924X")
    with pytest.raises(SignatureInvalid):
        await other.read_webhook(bench.headers(), BODY)


@pytest.mark.parametrize(
    "changes",
    [
        {"paypal_auth_algo": ""},
        {"paypal_auth_algo": "SHA1withRSA"},
        {"paypal_auth_algo": "sha256withrsa"},
        {"paypal_auth_algo": "none"},
        {"paypal_transmission_id": ""},
        {"paypal_transmission_id": "dfb3be50-fd74-11e4-8bf3-77339302725c"},
        {"paypal_transmission_id": "a|b"},
        {"paypal_transmission_id": "a" * 65},
        {"paypal_transmission_time": ""},
        {"paypal_transmission_time": "2026-03-01T11:59:59Z"},
        {"paypal_transmission_time": "2026-03-01T11:59:58Z|x"},
        {"paypal_transmission_sig": ""},
        {"paypal_transmission_sig": "AAAA"},
        {"paypal_transmission_sig": "not base64"},
        {"paypal_transmission_sig": "\u00e9"},
        {"paypal_transmission_sig": "A" * 4096},
        {"paypal_cert_url": ""},
    ],
)
async def test_headers_that_are_not_exactly_what_was_signed_are_refused(
    bench: Bench, changes: dict[str, Any]
) -> None:
    """The algorithm is pinned, and every part of the message counts."""
    assert not await bench.is_taken(bench.headers(**changes))


async def test_no_header_may_be_missing_and_nothing_is_fetched_then(bench: Bench) -> None:
    """Without one of the five nobody is asked for a certificate."""
    for name in bench.headers():
        headers = {key: value for key, value in bench.headers().items() if key != name}
        assert not await bench.is_taken(headers)
    assert not bench.asked


async def test_another_key_of_the_same_authority_is_refused(bench: Bench) -> None:
    """The signature has to fit the certificate that the webhook names."""
    bench.served["CERT-1"] = bench.authority.issue().pem
    assert not await bench.is_taken(bench.headers())


PAYPAL = "https://api.sandbox.paypal.com/v1/notifications/certs/"


@pytest.mark.parametrize(
    "url",
    [
        "http://api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
        "HTTPS://api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.sandbox.paypa1.com/v1/notifications/certs/CERT-1",
        "https://api.sandbox.p\u0430ypal.com/v1/notifications/certs/CERT-1",
        "https://api.sandbox.paypal.com.evil.example/v1/notifications/certs/CERT-1",
        "https://evil.example/api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
        "https://evil-api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.sandbox.paypal.com@evil.example/v1/notifications/certs/CERT-1",
        "https://user:pass@api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.sandbox.paypal.com:443/v1/notifications/certs/CERT-1",
        "https://api.sandbox.paypal.com:8443/v1/notifications/certs/CERT-1",
        "https://api.sandbox.paypal.com./v1/notifications/certs/CERT-1",
        "https://api.sandbox.paypal.com\\@evil.example/v1/notifications/certs/CERT-1",
        "//api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
        "/v1/notifications/certs/CERT-1",
        "https://api.sandbox.paypal.com/v1/oauth2/CERT-1",
        "https://api.sandbox.paypal.com/v1/notifications/certs",
        PAYPAL,
        f" {PAYPAL}CERT-1",
        f"{PAYPAL}CERT-1\n",
        f"{PAYPAL}CERT-1 ",
        f"{PAYPAL}../../../evil",
        f"{PAYPAL}..%2f..%2fevil",
        f"{PAYPAL}CERT-1/x",
        f"{PAYPAL}CERT-1?x=1",
        f"{PAYPAL}CERT-1#x",
        f"{PAYPAL}CERT%2d1",
        f"{PAYPAL}CERT.1",
        f"{PAYPAL}{'C' * 129}",
        f"{PAYPAL}C\u00c9RT",
        "ftp://api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
        "file:///v1/notifications/certs/CERT-1",
    ],
)
async def test_a_certificate_from_elsewhere_is_not_even_fetched(bench: Bench, url: str) -> None:
    """Only PayPal's own URL for the environment will do, letter by letter."""
    assert not is_allowed(url, PAYPAL)
    paypal = bench.adapter(certificate_url_prefix="")
    with pytest.raises(SignatureInvalid, match="certificate URL"):
        await paypal.read_webhook(bench.signer.headers(BODY, url, WEBHOOK_ID), BODY)


@pytest.mark.parametrize(
    ("environment", "prefix", "name"),
    [
        (
            "live",
            "https://api.paypal.com/v1/notifications/certs/",
            "messageverificationcerts.paypal.com",
        ),
        (
            "sandbox",
            "https://api.sandbox.paypal.com/v1/notifications/certs/",
            "messageverificationcerts.sandbox.paypal.com",
        ),
    ],
)
def test_each_environment_has_its_own_certificates(
    environment: Any, prefix: str, name: str
) -> None:
    """Host and name are those of the environment, and PayPal's real URLs fit."""
    settings = PaypalSettings("https://api-m.paypal.com", "c", "s", WEBHOOK_ID, environment)
    assert settings.allowed_certificate_url_prefix == prefix
    assert settings.certificate_name == name
    assert is_allowed(f"{prefix}CERT-360caa42-fca2a594-1a5f47cb", prefix)


@pytest.mark.parametrize(
    "prefix",
    [
        "http://api.paypal.com/v1/notifications/certs/",
        "http://192.0.2.1/v1/notifications/certs/",
        "http://127.0.0.1.evil.example/v1/notifications/certs/",
        "https://api.paypal.com/v1/notifications/certs",
        "https://api.paypal.com/",
        "https://user@api.paypal.com/v1/notifications/certs/",
        "https://api.paypal.com/v1/notifications/certs/?x=",
        "https:///v1/notifications/certs/",
        "file:///v1/notifications/certs/",
    ],
)
def test_certificates_may_come_without_tls_from_this_machine_alone(prefix: str) -> None:
    """A rule that would let anybody put certificates in our way is refused at the start."""
    with pytest.raises(ValueError, match="certificate URLs"):
        PaypalSettings(
            "https://x.example", "c", "s", WEBHOOK_ID, "live", certificate_url_prefix=prefix
        )


@pytest.mark.parametrize("field_name", ["client_id", "client_secret", "webhook_id"])
def test_blank_settings_are_refused_at_the_start(field_name: str) -> None:
    """Nothing that identifies the account may be missing, and no environment be invented."""
    given: dict[str, Any] = {
        "api_url": "https://api-m.paypal.com",
        "client_id": "c",
        "client_secret": "s",
        "webhook_id": WEBHOOK_ID,
        "environment": "live",
    }
    with pytest.raises(ValueError, match="blank"):
        PaypalSettings(**(given | {field_name: ""}))
    with pytest.raises(ValueError, match="environment"):
        PaypalSettings(**(given | {"environment": "test"}))


def test_the_secret_shows_in_no_representation() -> None:
    """Settings can be printed without giving the secret away."""
    shown = repr(PaypalSettings("https://x.example", "c", "hidden-secret", WEBHOOK_ID, "live"))
    assert "hidden-secret" not in shown


async def test_the_roots_of_the_system_are_trusted_where_none_are_named(bench: Bench) -> None:
    """Without roots of its own an adapter has the system's, which know nothing of a test's."""
    with pytest.raises(SignatureInvalid):
        await bench.adapter(trust_anchors_pem=b"").read_webhook(bench.headers(), BODY)


async def test_a_redirect_is_not_followed(bench: Bench) -> None:
    """A certificate is where PayPal says, and nowhere else."""
    bench.served["CERT-2"] = lambda _: web.Response(status=302, headers={"Location": "CERT-1"})
    assert not await bench.is_taken(bench.headers("CERT-2"))
    assert bench.asked == {"CERT-2": 1}


async def test_an_authority_that_is_not_trusted_is_refused(bench: Bench) -> None:
    """The right name and a good signature do not help where the chain ends nowhere."""
    forged = Authority().issue()
    bench.served["CERT-1"] = forged.pem
    assert not await bench.is_taken(forged.headers(BODY, bench.url(), WEBHOOK_ID))


async def test_a_forged_root_beside_the_certificate_does_not_help(bench: Bench) -> None:
    """What vouches for a certificate is not what comes with it."""
    authority = Authority()
    forged = authority.issue()
    bench.served["CERT-1"] = forged.pem + authority.pem
    assert not await bench.is_taken(forged.headers(BODY, bench.url(), WEBHOOK_ID))


@pytest.mark.parametrize(
    "name",
    [
        "messageverificationcerts.paypal.com",
        "api.sandbox.paypal.com",
        "messageverificationcerts.sandbox.paypal.com.evil.example",
        "x.messageverificationcerts.sandbox.paypal.com",
    ],
)
async def test_a_certificate_for_another_name_is_refused(bench: Bench, name: str) -> None:
    """A trusted authority signs for many; only PayPal's name for messages counts here."""
    other = bench.authority.issue(name)
    bench.served["CERT-1"] = other.pem
    assert not await bench.is_taken(other.headers(BODY, bench.url(), WEBHOOK_ID))


async def test_a_certificate_counts_only_in_its_time(bench: Bench) -> None:
    """By the clock of the adapter it is good from its first second to its last one."""
    certificate = bench.signer.certificate
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    for now, expected in [
        (begin - timedelta(seconds=1), False),
        (begin, True),
        (end, True),
        (end + timedelta(seconds=1), False),
    ]:
        bench.now = now
        assert await bench.is_taken(bench.headers()) is expected


async def test_a_kept_certificate_that_expires_is_refused_from_then_on(bench: Bench) -> None:
    """That it was good when it was fetched does not help later."""
    assert await bench.is_taken(bench.headers())
    bench.now += timedelta(days=31)
    assert not await bench.is_taken(bench.headers())


async def test_a_certificate_with_another_kind_of_key_is_refused(bench: Bench) -> None:
    """The algorithm is RSA's; a key of another kind cannot have signed."""
    other = bench.authority.issue(key=ec.generate_private_key(ec.SECP256R1()))
    bench.served["CERT-1"] = other.pem
    assert not await bench.is_taken(bench.headers())


@pytest.mark.parametrize(
    "content",
    [
        b"not a certificate",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"\x00" * 100,
    ],
)
async def test_what_is_no_certificate_is_refused(bench: Bench, content: bytes) -> None:
    """Whatever else comes from there is not taken for one."""
    bench.served["CERT-1"] = content
    assert not await bench.is_taken(bench.headers())


async def test_an_oversized_certificate_is_refused(bench: Bench) -> None:
    """It is not read to its end, even if there is a good one in it."""
    bench.served["CERT-1"] = bench.signer.pem + b"\n" * MAX_BYTES
    assert not await bench.is_taken(bench.headers())


async def test_a_chain_without_end_is_refused(bench: Bench) -> None:
    """Nobody makes us search through many certificates."""
    bench.served["CERT-1"] = bench.signer.pem * 9
    assert not await bench.is_taken(bench.headers())


async def test_a_certificate_is_fetched_once_for_all_who_wait(bench: Bench) -> None:
    """Many webhooks at once, and later ones, cost one request."""
    taken = await asyncio.gather(*(bench.is_taken(bench.headers()) for _ in range(20)))
    assert all(taken)
    assert await bench.is_taken(bench.headers())
    assert bench.asked == {"CERT-1": 1}


async def test_one_who_gives_up_does_not_disturb_those_who_wait(bench: Bench) -> None:
    """A request that is shared goes on when the one who started it is cancelled."""
    first = asyncio.create_task(bench.is_taken(bench.headers()))
    await asyncio.sleep(0)
    second = asyncio.create_task(bench.is_taken(bench.headers()))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert bench.asked == {"CERT-1": 1}


async def test_a_certificate_is_fetched_again_after_a_while(bench: Bench) -> None:
    """What is kept does not stay for ever; one that is withdrawn counts no more."""
    assert await bench.is_taken(bench.headers())
    bench.seconds = KEPT_SECONDS
    assert await bench.is_taken(bench.headers())
    assert bench.asked["CERT-1"] == 2
    bench.seconds = 2 * KEPT_SECONDS
    del bench.served["CERT-1"]
    assert not await bench.is_taken(bench.headers())


async def test_while_paypal_is_down_the_kept_certificate_goes_on(bench: Bench) -> None:
    """No webhook is refused because a certificate that is still valid cannot be refreshed."""
    assert await bench.is_taken(bench.headers())
    bench.served["CERT-1"] = lambda _: web.Response(status=503)
    bench.seconds = KEPT_SECONDS
    assert await bench.is_taken(bench.headers())


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_certificate_that_cannot_be_had_now_is_tried_again(
    bench: Bench, status: int
) -> None:
    """That is no verdict on the webhook: PayPal is told to send it again, and then it passes."""
    bench.served["CERT-1"] = lambda _: web.Response(status=status)
    with pytest.raises(GatewayUnavailable):
        await bench.paypal.read_webhook(bench.headers(), BODY)
    bench.served["CERT-1"] = bench.signer.pem
    assert await bench.is_taken(bench.headers())


async def test_a_line_that_breaks_means_unavailable(bench: Bench) -> None:
    """So does a server that goes away in the middle."""

    def break_off(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    bench.served["CERT-1"] = break_off
    with pytest.raises(GatewayUnavailable):
        await bench.paypal.read_webhook(bench.headers(), BODY)


async def test_no_more_certificates_are_kept_than_a_bound(bench: Bench) -> None:
    """The one that was used last stays, the one that was used longest ago goes."""
    for number in range(MAX_KEPT + 1):
        bench.served[f"CERT-{number}"] = bench.signer.pem
        assert await bench.is_taken(bench.headers(f"CERT-{number}"))
    assert await bench.is_taken(bench.headers(f"CERT-{MAX_KEPT}"))
    assert bench.asked[f"CERT-{MAX_KEPT}"] == 1
    assert await bench.is_taken(bench.headers("CERT-0"))
    assert bench.asked["CERT-0"] == 2


async def test_bad_certificates_do_not_push_out_good_ones(bench: Bench) -> None:
    """Whoever names many certificates that are not there cannot make us forget PayPal's."""
    assert await bench.is_taken(bench.headers())
    forged = Authority().issue().pem
    for number in range(2, MAX_KEPT + 3):
        bench.served[f"CERT-{number}"] = forged
        assert not await bench.is_taken(bench.headers(f"CERT-{number}"))
    assert await bench.is_taken(bench.headers())
    assert bench.asked["CERT-1"] == 1


def test_the_name_in_these_tests_is_the_sandboxes() -> None:
    """The certificates here are made for the name that the adapter asks for."""
    assert PaypalSettings("https://x.example", "c", "s", "w", "sandbox").certificate_name == NAME


@pytest.mark.skipif(not VECTORS.exists(), reason="the shared vectors are not on this machine")
def test_the_published_vectors_give_the_published_message() -> None:
    """What is signed is put together as PayPal does, CRC and all."""
    cases = json.loads((VECTORS / "paypal.json").read_bytes())["cases"]
    assert cases
    for case in cases:
        transmission = read_transmission(
            {
                "paypal-transmission-id": case["transmission_id"],
                "paypal-transmission-time": case["transmission_time"],
                "paypal-transmission-sig": "AAAA",
                "paypal-auth-algo": "SHA256withRSA",
            }
        )
        message = signed_message(transmission, case["body"].encode(), case["webhook_id"])
        assert message == case["signed_string"].encode()


def test_a_certificate_of_a_version_that_there_is_not_cannot_be_read() -> None:
    """Fuzzing found it: the library says so by an error of its own kind."""
    der = bytearray(Authority().certificate.public_bytes(serialization.Encoding.DER))
    der[der.index(bytes.fromhex("a003020102")) + 4] = 51
    pem = b"-----BEGIN CERTIFICATE-----\n%b-----END CERTIFICATE-----\n" % base64.encodebytes(der)
    with pytest.raises(SignatureInvalid, match="cannot be read"):
        read_chain(pem)
