"""The sidecar's connections: https from outside, TLS to the server, and proxies it believes."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from cryptography import x509
from pydantic import SecretStr

from certificate_bench import DAY, Authority, Issued, replace_file
from harness import Harness, event_of, eventually, free_port, signature_of, token, unique
from key_bench import metric_at
from server.access.http_tls import HttpTls
from server.access.watched_files import Unusable, read_files
from server.app import running_server
from server.cli.sidecar import running_sidecar

EVENT = event_of("invoice.paid", {})
"""Signed, it is taken, and changes nothing."""


@dataclass
class Outside:
    """A sidecar as a gateway reaches it, and the files that it and its server use."""

    folder: Path
    authority: Authority
    url: str
    metrics_url: str
    http: aiohttp.ClientSession

    async def deliver(self, **headers: str) -> int:
        """Send a webhook over a connection of its own; return the status."""
        given = {
            "Content-Type": "application/json",
            "X-Razorpay-Event-Id": unique("evt"),
            "X-Razorpay-Signature": signature_of(EVENT),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        url, trusted = f"{self.url}/webhooks/razorpay", self.trusted()
        async with self.http.post(url, data=EVENT, headers=given, ssl=trusted) as answer:
            return answer.status

    def trusted(self) -> ssl.SSLContext:
        """Return what a gateway connects with."""
        return ssl.create_default_context(cadata=self.authority.pem.decode())

    async def serial(self) -> int:
        """Return the serial number of the certificate that a new connection is shown."""
        host, _, port = self.url.removeprefix("https://").rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port), ssl=self.trusted())
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(shown).serial_number

    async def alarm(self, what: str) -> bool:
        """Tell whether something of the sidecar could not be renewed."""
        failing = await metric_at(self.http, self.metrics_url, "wallet_renewal_failing", what=what)
        return failing == 1


@asynccontextmanager
async def outside(harness: Harness, folder: Path, **changes: Any) -> AsyncIterator[Outside]:
    """Run a server with mutual TLS, and a sidecar with https before it."""
    authority = Authority()
    server = authority.server().write(folder, "server")
    roots = authority.write(folder, "roots")
    public = authority.server().write(folder, "public")
    own = authority.caller("sidecar").write(folder, "own")
    (folder / "token.txt").write_text(token(sub="sidecar", scope="webhook.forward") + "\n")
    of_server = {
        "grpc_certificate": server[0],
        "grpc_key": server[1],
        "grpc_client_roots": roots,
        "grpc_subject_names": ("sidecar=spiffe://shop/sidecar",),
        "grpc_connection_seconds": 1,
    }
    metrics_address = f"127.0.0.1:{free_port()}"
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(
            running_server(harness.settings.model_copy(update={"reload_seconds": 0.05} | of_server))
        )
        of_sidecar = {
            "reload_seconds": 0.05,
            "sidecar_address": "127.0.0.1:0",
            "sidecar_metrics_address": metrics_address,
            "sidecar_certificate": public[0],
            "sidecar_key": public[1],
            "sidecar_token": SecretStr(f"@{folder / 'token.txt'}"),
            "server_target": running.grpc_address,
            "server_roots": roots,
            "sidecar_client_certificate": own[0],
            "sidecar_client_key": own[1],
        }
        url = await stack.enter_async_context(
            running_sidecar(harness.settings.model_copy(update=of_sidecar | changes))
        )
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        )
        yield Outside(folder, authority, url, f"http://{metrics_address}/metrics", http)


async def test_a_webhook_comes_by_https_and_goes_on_by_mutual_tls(
    harness: Harness, tmp_path: Path
) -> None:
    """Signed, it is taken; a gateway that trusts another authority or speaks http is not served."""
    async with outside(harness, tmp_path) as sidecar:
        assert sidecar.url.startswith("https://")
        assert await sidecar.deliver() == 200
        plain = sidecar.url.replace("https://", "http://") + "/healthz"
        with pytest.raises(aiohttp.ClientError):
            await sidecar.http.get(plain)
        sidecar.authority = Authority()
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await sidecar.deliver()


async def test_the_sidecars_certificate_is_renewed_and_a_bad_one_is_not_shown(
    harness: Harness, tmp_path: Path
) -> None:
    """New connections are shown the new one; an expired one or a wrong key is never shown."""
    async with outside(harness, tmp_path) as sidecar:

        async def renewed(issued: Issued) -> None:
            issued.write(tmp_path, "public")

            async def is_shown() -> bool:
                return await sidecar.serial() == issued.serial

            await eventually(is_shown)
            assert await sidecar.deliver() == 200

        good = sidecar.authority.server()
        await renewed(good)

        async def alarm() -> bool:
            return await sidecar.alarm("sidecar_certificate")

        sidecar.authority.issue("late", begins=-2 * DAY, ends=-DAY).write(tmp_path, "public")
        await eventually(alarm)
        replace_file(tmp_path / "public.pem", good.certificate)
        assert await sidecar.serial() == good.serial
        assert await sidecar.deliver() == 200
        await renewed(sidecar.authority.server())
        assert not await alarm()


async def test_the_way_to_the_server_takes_new_certificates(
    harness: Harness, tmp_path: Path
) -> None:
    """When authority, server and sidecar get new certificates, webhooks go on to be taken."""
    async with outside(harness, tmp_path) as sidecar:
        assert await sidecar.deliver() == 200
        other = Authority()
        replace_file(tmp_path / "roots.pem", sidecar.authority.pem + other.pem)
        other.server().write(tmp_path, "server")
        other.write(tmp_path, "roots")

        async def answers(status: int) -> bool:
            return await sidecar.deliver() == status

        other.caller("somebody-else").write(tmp_path, "own")
        await eventually(lambda: answers(503))
        # From here on only what the other authority issued can be in use, at both ends.
        other.caller("sidecar").write(tmp_path, "own")
        await eventually(lambda: answers(200))


@pytest.mark.parametrize("fault", ["another name", "another authority", "plaintext"])
async def test_a_server_that_is_not_the_one_gets_no_webhook(
    harness: Harness, tmp_path: Path, fault: str
) -> None:
    """Nothing is forwarded to whoever cannot show the server's certificate: it is sent again."""
    changes: dict[str, Any] = {
        "another name": {"server_name": "wallet.example"},
        "another authority": {"server_roots": Authority().write(tmp_path, "others")},
        "plaintext": {"server_target": harness.grpc_address},
    }[fault]
    async with outside(harness, tmp_path, **changes) as sidecar:
        assert await sidecar.deliver() == 503


async def test_the_token_of_a_file_is_renewed(harness: Harness, tmp_path: Path) -> None:
    """An expired token makes 503; the next one in the file is used without a restart."""
    async with outside(harness, tmp_path) as sidecar:
        expired = token(sub="sidecar", scope="webhook.forward", exp=1)

        async def answers(status: int) -> bool:
            return await sidecar.deliver() == status

        replace_file(tmp_path / "token.txt", expired.encode())
        await eventually(lambda: answers(503))
        replace_file(tmp_path / "token.txt", token(sub="sidecar").encode())
        await eventually(lambda: answers(200))
        replace_file(tmp_path / "token.txt", b"two words")
        await eventually(lambda: sidecar.alarm("sidecar_token"))
        assert await sidecar.deliver() == 200


@pytest.mark.parametrize(
    ("trusted", "header", "sent", "remote"),
    [
        ((), "X-Forwarded-For", {"X_Forwarded_For": "192.0.2.7"}, "127.0.0.1"),
        (("10.0.0.0/8",), "X-Forwarded-For", {"X_Forwarded_For": "192.0.2.7"}, "127.0.0.1"),
        (("127.0.0.0/8",), "X-Forwarded-For", {"X_Forwarded_For": "192.0.2.7"}, "192.0.2.7"),
        (
            ("127.0.0.0/8",),
            "X-Forwarded-For",
            {"X_Forwarded_For": "6.6.6.6, 192.0.2.7"},
            "192.0.2.7",
        ),
        (
            ("127.0.0.0/8", "10.0.0.0/8"),
            "X-Forwarded-For",
            {"X_Forwarded_For": "6.6.6.6, 192.0.2.7:4711,10.1.2.3"},
            "192.0.2.7",
        ),
        (("127.0.0.0/8",), "X-Forwarded-For", {"X_Forwarded_For": "nonsense"}, "127.0.0.1"),
        (("127.0.0.0/8",), "X-Forwarded-For", {}, "127.0.0.1"),
        (("127.0.0.0/8",), "X-Forwarded-For", {"Forwarded": "for=6.6.6.6"}, "127.0.0.1"),
        (("127.0.0.0/8",), "Forwarded", {"X_Forwarded_For": "6.6.6.6"}, "127.0.0.1"),
        (("127.0.0.0/8",), "Forwarded", {"Forwarded": "for=192.0.2.7;proto=https"}, "192.0.2.7"),
        (
            ("127.0.0.0/8",),
            "Forwarded",
            {"Forwarded": 'for=6.6.6.6, proto=https;For="[2001:db8::7]:4711"'},
            "2001:db8::7",
        ),
        (("127.0.0.0/8",), "Forwarded", {"Forwarded": "for=_hidden"}, "127.0.0.1"),
        (
            ("127.0.0.0/8",),
            "Forwarded",
            {"Forwarded": '"\\' + '"\\' * 3_000 + ", for=192.0.2.7"},
            "192.0.2.7",
        ),
        (
            ("127.0.0.0/8", "10.0.0.0/8"),
            "X-Forwarded-For",
            {"X_Forwarded_For": "6.6.6.6" + ",10.0.0.1" * 500},
            "10.0.0.1",
        ),
        (
            ("127.0.0.0/8", "10.0.0.0/8"),
            "Forwarded",
            {"Forwarded": "for=6.6.6.6, proto=https, for=10.1.2.3"},
            "10.1.2.3",
        ),
    ],
)
async def test_only_a_trusted_proxy_says_who_sends(
    harness: Harness,
    tmp_path: Path,
    trusted: tuple[str, ...],
    header: str,
    sent: dict[str, str],
    remote: str,
) -> None:
    """The log names the last address that no trusted proxy has, in the one header that counts."""
    changes = {"sidecar_trusted_proxies": trusted, "sidecar_forwarded_header": header}
    own = {
        "sidecar_address": "127.0.0.1:0",
        "sidecar_token": SecretStr(token(sub="sidecar", scope="webhook.forward")),
        "server_target": harness.grpc_address,
    }
    settings = harness.settings.model_copy(update=own | changes)
    async with running_sidecar(settings) as url:
        sidecar = Outside(tmp_path, Authority(), url, "", harness.http)
        with structlog.testing.capture_logs() as logs:
            assert await sidecar.deliver(**sent) == 200
    (taken,) = [line for line in logs if line["event"] == "webhook_taken"]
    assert taken["remote"] == remote


async def test_what_was_checked_is_what_is_shown(tmp_path: Path) -> None:
    """Files that change between the check and their use are not taken: an expired one would be."""
    authority, taken = Authority(), list[Any]()

    class Files:
        """Hands on what reads the files, and lets the test say when."""

        def watch(self, _what: str, paths: Any, parse: Any, accept: Any) -> None:
            accept(parse(read_files(tuple(map(Path, paths)))))
            taken.append(parse)

    class Observer:
        """Takes no note."""

        def certificate_expires(self, what: str, time: datetime) -> None:
            """Forget it."""

    good = authority.server()
    files: Any = Files()
    HttpTls("sidecar_certificate", *good.write(tmp_path, "sidecar"), Observer()).watch(files)
    authority.issue("server", begins=-2 * DAY, ends=-DAY).write(tmp_path, "sidecar")

    with pytest.raises(Unusable, match="changed while"):
        taken[0]((good.certificate, good.key))
