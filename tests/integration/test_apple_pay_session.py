"""Merchant sessions over real HTTPS with client certificates, against a server that can refuse."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway_adapters.apple_pay import (
    PRODUCTION_HOSTS,
    PRODUCTION_VALIDATION_URL,
    SANDBOX_HOSTS,
    SANDBOX_VALIDATION_URL,
    Merchant,
    MerchantSession,
    SessionRefused,
    SessionUnavailable,
    ValidationUrlRefused,
    request_merchant_session,
    session_url,
)

NOW_MS = 1_785_000_000_000
MERCHANT = Merchant("merchant.com.example.wallet", "Example Wallet", "pay.example.com")
SESSION = b'{"epochTimestamp": 1, "merchantSessionIdentifier": "SSH1", "future": {"x": [1.5]}}'

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Files:
    """Certificates of one authority: the server's, the merchant's, and one of a stranger."""

    authority: Path
    server: Path
    merchant: Path
    stranger: Path

    def client(self, certificate: Path | None, authority: Path | None = None) -> ssl.SSLContext:
        """Return the TLS of a client with that certificate."""
        context = ssl.create_default_context(cafile=authority or self.authority)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context


@dataclass
class Apple:
    """The server in Apple's place: it notes what came, and answers as told."""

    answer: Answer
    url: str = ""
    seen: list[tuple[str, Any]] = field(default_factory=list)
    certificates: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> set[str]:
        """Return what is allowed in a test."""
        return {self.url.removeprefix("https://")}

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Note a request and its client, and answer."""
        assert request.transport is not None
        subject = request.transport.get_extra_info("peercert")["subject"]
        self.certificates.append(subject[0][0][1])
        self.seen.append((request.path_qs, await request.json()))
        return await self.answer(request)


async def grant(_request: web.Request) -> web.StreamResponse:
    """Answer with a session."""
    return web.Response(body=SESSION, content_type="application/json")


def issue(
    name: str, issuer: tuple[str, ec.EllipticCurvePrivateKey] | None, host: str = ""
) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    """Return a certificate, and its key; without an issuer it is an authority's own."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_name, issuer_key = issuer or (name, key)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(issuer is None, None), critical=True)
    )
    if host:
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.PEM), key


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write a private key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Give certificates made here."""
    folder = tmp_path_factory.mktemp("tls")
    made = Files(*(folder / f"{name}.pem" for name in ("ca", "server", "merchant", "stranger")))
    authority, authority_key = issue("Authority", None)
    other, other_key = issue("Other Authority", None)
    made.authority.write_bytes(authority)
    for path, issuer in (
        (made.server, ("Authority", authority_key)),
        (made.merchant, ("Authority", authority_key)),
        (made.stranger, ("Other Authority", other_key)),
    ):
        certificate, key = issue(path.stem, issuer, host="localhost")
        path.write_bytes(certificate + private_pem(key))
    (folder / "other-ca.pem").write_bytes(other)
    return made


@asynccontextmanager
async def serving(apple: Apple, files: Files) -> AsyncIterator[Apple]:
    """Serve in Apple's place, to clients whose certificate the authority has issued."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.server)
    tls.load_verify_locations(files.authority)
    tls.verify_mode = ssl.CERT_REQUIRED
    app = web.Application()
    app.router.add_post("/{path:.*}", apple.take)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "localhost", 0, ssl_context=tls)
        await site.start()
        apple.url = f"https://localhost:{runner.addresses[0][1]}"
        yield apple
    finally:
        await runner.cleanup()


@pytest.fixture
async def apple(files: Files) -> AsyncIterator[Apple]:
    """Give a server that grants sessions."""
    async with serving(Apple(grant), files) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    """Give a client that has no certificate of its own."""
    async with ClientSession() as opened:
        yield opened


async def ask(
    session: ClientSession, apple: Apple, tls: ssl.SSLContext, **options: Any
) -> MerchantSession:
    """Ask the server in Apple's place for a session."""
    fields = {"validation_url": apple.url, "allowed_hosts": apple.hosts, **options}
    return await request_merchant_session(session, tls, MERCHANT, now_ms=NOW_MS, **fields)


async def test_a_session_is_passed_on_as_it_came(
    session: ClientSession, apple: Apple, files: Files
) -> None:
    """Apple's object is opaque: not a byte of it is changed, and it lasts five minutes."""
    granted = await ask(session, apple, files.client(files.merchant))
    assert granted.content == SESSION
    assert granted.expires_ms == NOW_MS + 300_000
    assert "SSH1" not in repr(granted)


async def test_the_request_is_apples(session: ClientSession, apple: Apple, files: Files) -> None:
    """The merchant's certificate and the four documented fields go to Apple's path."""
    url = f"{apple.url}/paymentservices/startSession"
    await ask(session, apple, files.client(files.merchant), validation_url=url)
    assert apple.certificates == ["merchant"]
    assert apple.seen == [
        (
            "/paymentservices/paymentSession",
            {
                "merchantIdentifier": "merchant.com.example.wallet",
                "displayName": "Example Wallet",
                "initiative": "web",
                "initiativeContext": "pay.example.com",
            },
        )
    ]


async def test_each_payment_gets_a_session_of_its_own(
    session: ClientSession, apple: Apple, files: Files
) -> None:
    """A session is good once, so nothing is kept."""
    tls = files.client(files.merchant)
    await ask(session, apple, tls)
    await ask(session, apple, tls)
    assert len(apple.seen) == 2


@pytest.mark.parametrize("name", ["stranger", None])
async def test_without_the_merchants_certificate_there_is_no_session(
    session: ClientSession, apple: Apple, files: Files, name: str | None
) -> None:
    """A client with another certificate, or with none, does not get through."""
    tls = files.client(None if name is None else files.stranger)
    with pytest.raises(SessionUnavailable):
        await ask(session, apple, tls)
    assert apple.seen == []


async def test_a_server_that_nobody_vouches_for_is_not_asked(
    session: ClientSession, apple: Apple, files: Files
) -> None:
    """The merchant's certificate is not shown to somebody in Apple's place."""
    other = files.authority.with_name("other-ca.pem")
    with pytest.raises(SessionUnavailable):
        await ask(session, apple, files.client(files.merchant, authority=other))
    assert apple.seen == []


async def test_tls_that_verifies_nobody_is_a_mistake(
    session: ClientSession, apple: Apple, files: Files
) -> None:
    """A context without verification is refused before anything is sent."""
    for verify_mode in (ssl.CERT_NONE, ssl.CERT_REQUIRED):
        tls = files.client(files.merchant)
        tls.check_hostname = False
        tls.verify_mode = verify_mode
        with pytest.raises(ValueError, match="verify"):
            await ask(session, apple, tls)
    assert apple.seen == []


async def test_a_refused_url_is_not_asked(
    session: ClientSession, apple: Apple, files: Files
) -> None:
    """A host that is not on the list hears nothing, even where it is there."""
    with pytest.raises(ValidationUrlRefused):
        await ask(session, apple, files.client(files.merchant), allowed_hosts=PRODUCTION_HOSTS)
    assert apple.seen == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 417])
async def test_a_refusal_says_so_and_its_reason_is_logged(
    session: ClientSession, apple: Apple, files: Files, status: int
) -> None:
    """What Apple says goes to the log on one line, not to the client."""
    reason = "merchantId not registered\nfor domain" + "!" * 500

    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"statusMessage": reason}, status=status)

    apple.answer = refuse
    with capture_logs() as logs, pytest.raises(SessionRefused) as raised:
        await ask(session, apple, files.client(files.merchant))
    assert "registered" not in str(raised.value)
    assert logs[0]["reason"].startswith('"merchantId not registered\\nfor domain')
    assert len(logs[0]["reason"]) == 300


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"statusMessage": 7}', b"[" * 9_000])
async def test_a_refusal_without_a_reason_is_one(
    session: ClientSession, apple: Apple, files: Files, body: bytes
) -> None:
    """Whatever stands in a refusal, it is a refusal."""

    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=400)

    apple.answer = refuse
    with pytest.raises(SessionRefused):
        await ask(session, apple, files.client(files.merchant))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"[]"),
        (200, b"<html>"),
        (200, b" " * 70_000 + SESSION),
        (200, b"[" * 60_000),
        (204, b""),
        (302, SESSION),
        (307, SESSION),
        (408, SESSION),
        (429, SESSION),
        (500, SESSION),
        (503, b"<html>"),
    ],
)
async def test_an_answer_that_is_no_session_is_none(
    session: ClientSession, apple: Apple, files: Files, status: int, body: bytes
) -> None:
    """Redirects are not followed; other and overlong answers are no sessions."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        headers = {"Location": f"{apple.url}/elsewhere"} if status in {302, 307} else {}
        return web.Response(body=body, status=status, headers=headers)

    apple.answer = answer
    with pytest.raises(SessionUnavailable):
        await ask(session, apple, files.client(files.merchant))
    assert [path for path, _ in apple.seen] == ["/paymentservices/paymentSession"]


async def test_an_endless_answer_is_cut_off(
    session: ClientSession, apple: Apple, files: Files
) -> None:
    """What does not end is not read until the time is up: it is over the bound before."""

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 4096)

    apple.answer = endless
    with pytest.raises(SessionUnavailable, match="too long"):
        await ask(session, apple, files.client(files.merchant))


async def test_a_silent_server_is_given_up_on(
    session: ClientSession, apple: Apple, files: Files
) -> None:
    """A request has an end also where the answer has none."""
    released = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await released.wait()
        return await grant(request)

    apple.answer = hang
    with pytest.raises(SessionUnavailable, match="in time"):
        await ask(session, apple, files.client(files.merchant), timeout_seconds=0.2)
    released.set()


async def test_a_lost_answer_is_worth_another_request(
    session: ClientSession, apple: Apple, files: Files
) -> None:
    """A connection that ends before the answer gives no session."""

    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    apple.answer = cut
    with pytest.raises(SessionUnavailable, match="reached"):
        await ask(session, apple, files.client(files.merchant))


@pytest.mark.parametrize("path", ["", "/paymentservices", "/paymentservices/startSession"])
@pytest.mark.parametrize("host", sorted(PRODUCTION_HOSTS))
def test_apples_hosts_are_taken(host: str, path: str) -> None:
    """Each published host leads to its payment sessions."""
    assert session_url(f"https://{host}{path}") == f"https://{host}/paymentservices/paymentSession"


def test_the_two_environments_are_kept_apart() -> None:
    """A sandbox's URL is refused in production, and the other way round."""
    assert session_url(PRODUCTION_VALIDATION_URL).startswith("https://apple-pay-gateway.apple.com/")
    assert "-cert." in session_url(SANDBOX_VALIDATION_URL, SANDBOX_HOSTS)
    with pytest.raises(ValidationUrlRefused):
        session_url(SANDBOX_VALIDATION_URL)
    with pytest.raises(ValidationUrlRefused):
        session_url(PRODUCTION_VALIDATION_URL, SANDBOX_HOSTS)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "apple-pay-gateway.apple.com",
        "//apple-pay-gateway.apple.com/paymentservices/startSession",
        "http://apple-pay-gateway.apple.com/paymentservices/startSession",
        "HTTPS://apple-pay-gateway.apple.com/paymentservices/startSession",
        "https://apple-pay-gateway.apple.com.example.com/paymentservices/startSession",
        "https://example.com/apple-pay-gateway.apple.com",
        "https://example.com?apple-pay-gateway.apple.com",
        "https://example.com#apple-pay-gateway.apple.com",
        "https://example.com\\@apple-pay-gateway.apple.com/",
        "https://apple-pay-gateway.apple.com@example.com/paymentservices/startSession",
        "https://user:pass@apple-pay-gateway.apple.com/paymentservices/startSession",
        "https://apple-pay-gateway.apple.com:8443/paymentservices/startSession",
        "https://apple-pay-gateway.apple.com./paymentservices/startSession",
        "https://evil-apple-pay-gateway.apple.com/paymentservices/startSession",
        "https://apple-pay-gateway-nc-pod6.apple.com/paymentservices/startSession",
        "https://apple-pay-gateway.apple.com/elsewhere",
        "https://apple-pay-gateway.apple.com/paymentservices/startSession/../x",
        "https://apple-pay-gateway.apple.com/paymentservices/startSession?to=x",
        "https://apple-pay-gateway.apple.com/paymentservices/startSession\n",
        "https://apple-pay-gateway.apple.com\t/paymentservices/startSession",
        " https://apple-pay-gateway.apple.com",
        "https://apple-p\u0430y-gateway.apple.com/paymentservices/startSession",
        "https://17.171.78.7/paymentservices/startSession",
        "https://[::1]/paymentservices/startSession",
        "https://" + "a" * 300 + ".apple.com",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    """Nothing but the exact hosts over https, whatever parsers make of it."""
    with pytest.raises(ValidationUrlRefused) as raised:
        session_url(url)
    assert not url or url not in str(raised.value)


@given(st.text(max_size=100) | st.from_regex(r"https://[a-z.@:/\\-]+apple\.com[/a-z]*"))
def test_any_url_leads_to_apple_or_nowhere(url: str) -> None:
    """Whatever a client sends, the certificate goes to a host on the list."""
    try:
        found = session_url(url)
    except ValidationUrlRefused:
        return
    assert found.removeprefix("https://").split("/")[0] in PRODUCTION_HOSTS


@pytest.mark.parametrize(
    ("identifier", "name", "domain"),
    [
        ("", "Wallet", "example.com"),
        ("merchant com", "Wallet", "example.com"),
        ("merchant.x", "", "example.com"),
        ("merchant.x", "\u00e9" * 33, "example.com"),
        ("merchant.x", "a\nb", "example.com"),
        ("merchant.x", "\ud800", "example.com"),
        ("merchant.x", "Wallet", ""),
        ("merchant.x", "Wallet", "localhost"),
        ("merchant.x", "Wallet", "https://example.com"),
        ("merchant.x", "Wallet", "example.com/path"),
        ("merchant.x", "Wallet", "Example.com"),
        ("merchant.x", "Wallet", "example.com\n"),
        ("merchant.x", "Wallet", ".".join(["a" * 63] * 5)),
    ],
)
def test_a_merchant_that_apple_would_refuse_is_refused(
    identifier: str, name: str, domain: str
) -> None:
    """Identifier, name and domain have the form that Apple documents."""
    with pytest.raises(ValueError, match=r"must|not"):
        Merchant(identifier, name, domain)


def test_a_display_name_may_be_in_any_script() -> None:
    """64 bytes of UTF-8 are allowed."""
    name = "\u091a\u093e\u092f"
    assert Merchant("merchant.x", name, "example.com").display_name == name
