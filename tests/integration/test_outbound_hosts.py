"""The way out, over real sockets: named hosts, verified, and never elsewhere."""

import ast
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

import gateway_adapters
from gateway_adapters.guarded_session import HostRefused, guarded_session
from paypal_authority import Authority
from server.config import load_settings
from server.gateways import outbound_hosts
from server.listening import address_of, bind, http_server

ADAPTERS = Path(gateway_adapters.__file__ or "").parent
METHODS = {"get", "post", "put", "patch", "delete", "request", "head"}


@dataclass
class Place:
    """A server that notes who comes, and sends them on to `elsewhere` if there is one."""

    url: str
    visits: list[str] = field(default_factory=list)
    elsewhere: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        """Note the visit."""
        self.visits.append(request.path)
        if self.elsewhere:
            raise web.HTTPFound(self.elsewhere)
        return web.json_response({})


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """A server at 127.0.0.1."""
    bound = bind("127.0.0.1:0", "place")
    running = Place(f"http://{address_of(bound)}")
    app = web.Application()
    app.router.add_get("/{path:.*}", running.answer)
    async with http_server(web.AppRunner(app, access_log=None), bound):
        yield running


async def test_a_named_host_is_reached(place: Place) -> None:
    """What is on the list is called."""
    async with guarded_session({"127.0.0.1"}) as session, session.get(place.url) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"])
async def test_another_host_is_not_even_connected_to(place: Place, host: str) -> None:
    """However this machine is written, it is not reached where it is not on the list."""
    url = place.url.replace("127.0.0.1", host)
    async with guarded_session({"api.example.com"}) as session:
        with pytest.raises(HostRefused):
            await session.get(url)

    assert place.visits == []


async def test_nothing_is_sent_over_an_open_line() -> None:
    """A named host is called by https, unless it is this machine."""
    async with guarded_session({"api.example.com"}) as session:
        with pytest.raises(HostRefused):
            await session.get("http://api.example.com/")


async def test_no_redirect_is_followed(place: Place) -> None:
    """Not even to a host that is on the list."""
    place.elsewhere = f"{place.url}/elsewhere"
    async with guarded_session({"127.0.0.1"}) as session:
        with pytest.raises(HostRefused):
            await session.get(f"{place.url}/first")

    assert place.visits == ["/first"]


async def test_a_certificate_of_nobody_is_not_trusted(tmp_path: Path) -> None:
    """A host whose certificate no trusted root has signed gets no request."""
    tls = Authority().server_context(tmp_path)
    bound = bind("127.0.0.1:0", "place")
    running = Place(f"https://{address_of(bound)}".replace("127.0.0.1", "localhost"))
    app = web.Application()
    app.router.add_get("/{path:.*}", running.answer)
    async with (
        http_server(web.AppRunner(app, access_log=None), bound, tls),
        guarded_session({"localhost"}) as session,
    ):
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(running.url)

    assert running.visits == []


def test_the_list_holds_the_hosts_of_what_is_set_up() -> None:
    """A gateway that is not used is not reached; one that is, at its own hosts alone."""
    assert outbound_hosts(load_settings()) == frozenset()
    settings = load_settings(
        paypal_client_id="client",
        paypal_client_secret="secret",
        paypal_webhook_id="webhook",
        paypal_api_url="https://api-m.sandbox.paypal.com",
        paypal_environment="sandbox",
        stripe_publishable_key="pk",
        stripe_secret_key="sk",
        stripe_webhook_secrets="whsec",
    )

    assert outbound_hosts(settings) == {
        "api-m.sandbox.paypal.com",
        "api.sandbox.paypal.com",
        "api.stripe.com",
    }


def outbound_calls(source: str) -> Iterator[ast.Call]:
    """Find the calls of an HTTP session in a module."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(ast.Attribute(owner, method), _) if method in METHODS:
                if ast.unparse(owner).endswith("session"):
                    yield node


def test_every_call_out_refuses_redirects_and_bounds_its_time() -> None:
    """No adapter leaves it to a default; none turns verification off."""
    calls = [
        (file, call)
        for file in sorted(ADAPTERS.rglob("*.py"))
        if "sandbox" not in file.parts
        for call in outbound_calls(file.read_text())
    ]

    assert len(calls) >= 4
    for file, call in calls:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("allow_redirects") == "False", file
        assert "timeout" in given, file
        assert given.get("ssl") in {None, "tls"}, file
