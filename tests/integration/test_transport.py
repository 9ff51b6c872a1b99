"""TLS of the gRPC server over real sockets: who gets a connection, and what renewal does."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from test_rpc_limits import connection, is_closed_at_once

from certificate_bench import DAY, LOOPBACK, Authority, Issued, channel_credentials, replace_file
from command_line import run_in_process
from harness import Harness, bearer, eventually, refused, token
from key_bench import metric_at
from payment_load import serving
from server.access.watched_files import Unusable
from server.app import running_server
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
CONNECTED = "connected"
NO_CONNECTION = "no connection"
WHAT = "grpc_certificate"


@dataclass
class Secure:
    """A server with mutual TLS; its files can be replaced."""

    folder: Path
    authority: Authority
    target: str
    metrics_url: str
    harness: Harness

    @property
    def caller(self) -> Issued:
        """A certificate of a caller that the server knows."""
        return self.authority.caller("order-service")

    def show(self, issued: Issued) -> None:
        """Put another certificate in the place of the server's."""
        issued.write(self.folder, "server")

    @asynccontextmanager
    async def stub(
        self, credentials: grpc.ChannelCredentials, *options: tuple[str, Any]
    ) -> AsyncIterator[Any]:
        """Give calls over a connection of their own."""
        given = (*OWN_CONNECTION, *options)
        async with grpc.aio.secure_channel(self.target, credentials, given) as channel:
            yield service_grpc.WalletPaymentServiceStub(channel)

    async def attempt(self, credentials: grpc.ChannelCredentials, **call: Any) -> str:
        """Call over a connection of its own; return CONNECTED, NO_CONNECTION or the reason."""
        async with self.stub(credentials) as stub:
            return await answer_of(stub, **call)

    async def serial(self) -> int:
        """Return the serial number of the certificate that a new connection is shown."""
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(*self.caller.write(self.folder, "prober"))
        host, _, port = self.target.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(shown).serial_number

    async def alarm(self) -> bool:
        """Tell whether the certificate could not be renewed."""
        return await self.metric("wallet_renewal_failing") == 1

    async def metric(self, name: str) -> float:
        """Return a metric of the certificate."""
        return await metric_at(self.harness.http, self.metrics_url, name, what=WHAT)


async def answer_of(stub: Any, subject: str = "order-service", seconds: float = 10) -> str:
    """Call; return CONNECTED, NO_CONNECTION, or the reason of the refusal."""
    request = service.GetStatusRequest(customer_id="nobody")
    try:
        await stub.GetStatus(request, metadata=bearer(token(sub=subject)), timeout=seconds)
    except grpc.aio.AioRpcError as error:
        trailing: Any = error.trailing_metadata() or ()
        if "grpc-status-details-bin" not in dict(trailing):
            is_out = error.code() is grpc.StatusCode.UNAVAILABLE
            return NO_CONNECTION if is_out else error.code().name
        reason = refused(error).reason
        return CONNECTED if reason == "CUSTOMER_NOT_FOUND" else reason
    raise AssertionError("nobody is a customer")


@asynccontextmanager
async def running_secure(harness: Harness, folder: Path, **changes: Any) -> AsyncIterator[Secure]:
    """Run a server with mutual TLS on a harness's database."""
    authority = Authority()
    certificate, key = authority.server().write(folder, "server")
    given = {
        "reload_seconds": 0.05,
        "grpc_certificate": certificate,
        "grpc_key": key,
        "grpc_client_roots": authority.write(folder, "roots"),
    } | changes
    async with running_server(harness.settings.model_copy(update=given)) as running:
        metrics_url = f"http://{running.metrics_address}/metrics"
        yield Secure(folder, authority, running.grpc_address, metrics_url, harness)


@pytest.fixture(scope="module")
async def secure(
    harness: Harness, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Secure]:
    """One server with mutual TLS, whose files no test replaces."""
    async with running_secure(harness, tmp_path_factory.mktemp("tls")) as running:
        yield running


async def test_only_a_good_certificate_gets_a_connection(secure: Secure) -> None:
    """A caller's own is let in; none, an expired, a future and another authority's are not."""
    roots, authority = secure.authority.pem, secure.authority

    async def attempt(shown: Issued | None) -> str:
        return await secure.attempt(channel_credentials(roots, shown))

    assert await attempt(secure.caller) == CONNECTED
    assert await attempt(None) == NO_CONNECTION
    assert await attempt(authority.issue("late", begins=-2 * DAY, ends=-DAY)) == NO_CONNECTION
    assert await attempt(authority.issue("early", begins=DAY, ends=2 * DAY)) == NO_CONNECTION
    assert await attempt(Authority().caller("order-service")) == NO_CONNECTION


async def test_the_operators_commands_speak_tls_too(secure: Secure, tmp_path: Path) -> None:
    """With roots and a certificate a command reaches the server, and without them it does not."""
    certificate, key = secure.caller.write(tmp_path, "operator")
    tls = {
        "WALLET_SERVER_ROOTS": secure.authority.write(tmp_path, "roots"),
        "WALLET_SIDECAR_CLIENT_CERTIFICATE": certificate,
        "WALLET_SIDECAR_CLIENT_KEY": key,
    }
    target = {"WALLET_SERVER_TARGET": secure.target}
    for given, told, status in ((tls, "SERVING", 0), ({}, "UNREACHABLE", 1)):
        output, _ = await run_in_process(
            "health", environment=target | given, folder=tmp_path, status=status
        )
        assert output == f"{told}\n"


async def test_plaintext_gets_no_connection(secure: Secure) -> None:
    """Where there is TLS nothing else is spoken."""
    async with grpc.aio.insecure_channel(secure.target) as channel:
        assert await answer_of(service_grpc.WalletPaymentServiceStub(channel)) == NO_CONNECTION


async def test_who_shakes_no_hand_counts_as_a_connection(harness: Harness, tmp_path: Path) -> None:
    """Places that are held without a certificate are bounded as well; who is connected goes on."""
    async with (
        running_secure(harness, tmp_path, grpc_max_connections=3) as secure,
        secure.stub(channel_credentials(secure.authority.pem, secure.caller)) as stub,
        AsyncExitStack() as held,
    ):
        assert await answer_of(stub) == CONNECTED
        for _ in range(2):
            await held.enter_async_context(connection(secure.target))

        assert await is_closed_at_once(secure.target, b"")
        assert await answer_of(stub) == CONNECTED


async def test_a_caller_knows_its_server(secure: Secure) -> None:
    """A server of another authority, or by a name that its certificate lacks, is not called."""
    stranger = channel_credentials(Authority().pem, secure.caller)
    assert await secure.attempt(stranger) == NO_CONNECTION

    known = channel_credentials(secure.authority.pem, secure.caller)
    for name, said in (("elsewhere.example", NO_CONNECTION), ("localhost", CONNECTED)):
        async with secure.stub(known, ("grpc.ssl_target_name_override", name)) as stub:
            assert await answer_of(stub) == said


async def test_a_certificate_is_renewed_while_calls_go_on(harness: Harness, tmp_path: Path) -> None:
    """New connections are shown the new certificate; no call on old or new ones fails."""
    async with running_secure(harness, tmp_path) as secure:
        known = channel_credentials(secure.authority.pem, secure.caller)
        is_over = False
        answers: list[str] = []

        async def call_on(stub: Any) -> None:
            while not is_over:
                answers.append(await answer_of(stub))

        async with secure.stub(known) as stub:
            calls = asyncio.create_task(call_on(stub))
            for _ in range(3):
                renewed = secure.authority.server()
                secure.show(renewed)

                async def is_shown(serial: int = renewed.serial) -> bool:
                    return await secure.serial() == serial

                await eventually(is_shown)
                answers.append(await secure.attempt(known))
            is_over = True
            await calls
        assert len(answers) > 10
        assert set(answers) == {CONNECTED}


@pytest.mark.parametrize(
    "fault",
    [
        "expired",
        "too early",
        "another key",
        "a key gRPC cannot use",
        "no certificate",
        "half a chain",
        "half of the roots",
        "gone",
    ],
)
async def test_a_bad_certificate_changes_nothing(
    harness: Harness, tmp_path: Path, fault: str
) -> None:
    """The last good one is shown on, with an alarm, until there is a good one again."""
    async with running_secure(harness, tmp_path) as secure:
        before = await secure.serial()
        known = channel_credentials(secure.authority.pem, secure.caller)
        expiry = await secure.metric("wallet_certificate_expiry_timestamp_seconds")
        _spoil(secure, fault)
        await eventually(secure.alarm)

        assert await secure.serial() == before
        assert await secure.attempt(known) == CONNECTED
        assert await secure.metric("wallet_certificate_expiry_timestamp_seconds") == expiry

        good = secure.authority.issue("server", ends=2 * DAY, names=LOOPBACK)
        secure.authority.write(tmp_path, "roots")
        secure.show(good)

        async def is_over() -> bool:
            return not await secure.alarm()

        await eventually(is_over)
        assert await secure.serial() == good.serial
        assert await secure.metric("wallet_certificate_expiry_timestamp_seconds") > expiry + 80_000


def _spoil(secure: Secure, fault: str) -> None:
    match fault:
        case "expired":
            secure.show(secure.authority.issue("server", begins=-2 * DAY, ends=-DAY))
        case "too early":
            secure.show(secure.authority.issue("server", begins=DAY, ends=2 * DAY))
        case "another key":
            replace_file(secure.folder / "server.key", secure.authority.server().key)
        case "a key gRPC cannot use":
            key = ed25519.Ed25519PrivateKey.generate()
            secure.show(secure.authority.issue("server", LOOPBACK, key=key))
        case "no certificate":
            replace_file(secure.folder / "server.pem", b"nothing")
        case "half a chain":
            chain = (secure.folder / "server.pem").read_bytes() + secure.authority.pem
            replace_file(secure.folder / "server.pem", chain[:-100])
        case "half of the roots":
            both = secure.authority.pem + Authority().pem
            replace_file(secure.folder / "roots.pem", both[:-100])
        case "gone":
            (secure.folder / "server.key").unlink()


@pytest.mark.parametrize("fault", ["expired", "another key", "no roots"])
async def test_no_server_starts_with_a_bad_certificate(
    harness: Harness, tmp_path: Path, fault: str
) -> None:
    """At the start there is no last good one: the message says what is wrong."""
    given = _bad_files(tmp_path, fault)
    says = {"expired": "expired at", "another key": "not that of", "no roots": "no certificate"}

    starting = running_server(harness.settings.model_copy(update=given))
    with pytest.raises(Unusable, match=says[fault]):
        await starting.__aenter__()


def _bad_files(folder: Path, fault: str) -> dict[str, str]:
    authority = Authority()
    issued = authority.server()
    if fault == "expired":
        issued = authority.issue("server", begins=-2 * DAY, ends=-DAY)
    if fault == "another key":
        issued = replace(issued, key=authority.server().key)
    certificate, key = issued.write(folder, "server")
    roots = folder / "roots.pem"
    roots.write_bytes(b"" if fault == "no roots" else authority.pem)
    return {"grpc_certificate": certificate, "grpc_key": key, "grpc_client_roots": str(roots)}


async def test_an_authority_that_is_dropped_keeps_nobody_connected(
    harness: Harness, tmp_path: Path
) -> None:
    """Its callers get no new connection, and the one that they have ends in its time."""
    async with running_secure(harness, tmp_path, grpc_connection_seconds=1) as secure:
        other = Authority()
        known = channel_credentials(secure.authority.pem, secure.caller)
        async with secure.stub(known) as stub:
            assert await answer_of(stub) == CONNECTED
            other.write(tmp_path, "roots")

            async def is_out() -> bool:
                return await answer_of(stub) == NO_CONNECTION

            await eventually(is_out)
        theirs = channel_credentials(secure.authority.pem, other.caller("order-service"))
        assert await secure.attempt(theirs) == CONNECTED


async def test_a_token_comes_with_the_certificate_of_its_caller(
    harness: Harness, tmp_path: Path
) -> None:
    """`sub` and the certificate's name have to fit: by the list, or by being the same."""
    names = ("order-service=spiffe://shop/order-service", "*")
    async with running_secure(harness, tmp_path, grpc_subject_names=names) as secure:
        issue = secure.authority.issue

        async def attempt(shown: Issued, subject: str) -> str:
            credentials = channel_credentials(secure.authority.pem, shown)
            return await secure.attempt(credentials, subject=subject)

        assert await attempt(secure.caller, "order-service") == CONNECTED
        assert await attempt(secure.caller, "sidecar") == "CERTIFICATE_MISMATCH"
        by_dns = issue("any", (x509.DNSName("other"), x509.DNSName("sidecar")))
        assert await attempt(by_dns, "sidecar") == CONNECTED
        assert await attempt(by_dns, "order-service") == "CERTIFICATE_MISMATCH"
        assert await attempt(issue("sidecar"), "sidecar") == CONNECTED
        behind_others = issue("sidecar", (x509.DNSName("other"),))
        assert await attempt(behind_others, "sidecar") == "CERTIFICATE_MISMATCH"
        assert await attempt(issue("*"), "sidecar") == "CERTIFICATE_MISMATCH"


async def test_without_names_a_certificate_is_for_any_token(secure: Secure) -> None:
    """Where no names are set, whoever has a connection may use any good token."""
    known = channel_credentials(secure.authority.pem, secure.caller)

    assert await secure.attempt(known, subject="anybody") == CONNECTED


async def test_workers_speak_tls_on_their_one_port(
    harness: Harness, mongodb_uri: str, tmp_path: Path
) -> None:
    """Each of two workers shows the certificate, and each takes over a new one."""
    authority = Authority()
    certificate, key = authority.server().write(tmp_path, "server")
    credentials = channel_credentials(authority.pem, authority.caller("order-service"))
    running = serving(
        mongodb_uri,
        "--workers",
        "2",
        credentials=credentials,
        WALLET_GRPC_CERTIFICATE=certificate,
        WALLET_GRPC_KEY=key,
        WALLET_GRPC_CLIENT_ROOTS=authority.write(tmp_path, "roots"),
        WALLET_RELOAD_SECONDS="0.05",
    )
    async with running as (_, address):
        secure = Secure(tmp_path, authority, address, "", harness)
        renewed = authority.server()
        secure.show(renewed)

        async def all_show_it() -> bool:
            return {await secure.serial() for _ in range(16)} == {renewed.serial}

        await eventually(all_show_it)
        for _ in range(4):
            assert await secure.attempt(credentials) == CONNECTED


async def test_failed_handshakes_leave_no_lines_in_the_log(
    mongodb_uri: str, tmp_path: Path
) -> None:
    """Whoever connects without a certificate or TLS cannot fill the server's standard error."""
    authority = Authority()
    certificate, key = authority.server().write(tmp_path, "server")
    roots = authority.write(tmp_path, "roots")
    known = channel_credentials(authority.pem, authority.caller("order-service"))
    log = tmp_path / "log.txt"
    with log.open("wb") as stderr:
        running = serving(
            mongodb_uri,
            credentials=known,
            stderr=stderr,
            WALLET_GRPC_CERTIFICATE=certificate,
            WALLET_GRPC_KEY=key,
            WALLET_GRPC_CLIENT_ROOTS=roots,
        )
        async with running as (_, address):
            without = grpc.aio.secure_channel(address, channel_credentials(authority.pem))
            plain = grpc.aio.insecure_channel(address)
            async with without, plain:
                for channel in (without, plain):
                    stub = service_grpc.WalletPaymentServiceStub(channel)
                    assert await answer_of(stub) == NO_CONNECTION
    assert log.read_text() == ""
