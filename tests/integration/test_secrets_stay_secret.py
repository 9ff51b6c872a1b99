"""A secret of each setting, marked, and then looked for in everything that the service says."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from command_line import start
from harness import (
    bearer,
    event_of,
    jwt_keys,
    payment_of,
    refusal_of,
    running_harness,
    unique,
    with_database,
)
from server.config import Settings, SettingsError, load_settings
from wallet_payment.v1 import wallet_payment_service_pb2 as service

MARKER = "zq9marker"


def secret_settings() -> list[str]:
    """Return the names of all settings that hold a secret."""
    return [
        name
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    ]


def marked(name: str) -> str:
    """Return a value of a secret setting, with the marker in it, which is accepted."""
    if name == "jwt_keys":
        keys = jwt_keys()
        keys["keys"][0]["k"] = MARKER * 8
        return json.dumps(keys)
    if name == "mongodb_uri":
        return f"mongodb://user:{MARKER}@127.0.0.1:1/wallet_payment?replicaSet=none"
    return MARKER


def accounts() -> dict[str, str]:
    """Return what has to stand beside the secrets of the gateways."""
    return {
        "WALLET_RAZORPAY_KEY_ID": "rzp_live_1",
        "WALLET_PAYPAL_CLIENT_ID": "client",
        "WALLET_PAYPAL_WEBHOOK_ID": "webhook",
        "WALLET_STRIPE_PUBLISHABLE_KEY": "pk_live_1",
        "WALLET_JWT_ALGORITHMS": "HS256",
    }


def accepted() -> dict[str, str]:
    """Return an environment with every secret that takes any text, marked."""
    environment = accounts()
    for name in secret_settings():
        given = environment | {f"WALLET_{name.upper()}": marked(name)}
        try:
            with_environment(given | others_of(name))
        except SettingsError:
            continue  # such as a key in PEM: what is refused is looked at below
        environment = given
    return environment


def others_of(name: str) -> dict[str, str]:
    """Return the other secrets of the gateways: an account is accepted as a whole."""
    return {
        f"WALLET_{other.upper()}": "x"
        for other in secret_settings()
        if other != name and other.startswith(("razorpay", "paypal", "stripe"))
    }


def with_environment(environment: dict[str, str]) -> Settings:
    """Load the settings of an environment."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in environment.items():
            patch.setenv(variable, value)
        return load_settings()


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an environment without settings."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"WALLET_{name.upper()}", raising=False)


def test_every_setting_that_sounds_like_a_secret_is_one() -> None:
    """Keys, secrets and tokens are of the type that shows nothing, unless they are public."""
    public = {
        *("razorpay_key_id", "stripe_publishable_key", "seal_public_key", "google_pay_keys_url"),
        "apple_pay_identity_key",  # the path of a file
        *("grpc_key", "sidecar_key", "sidecar_client_key"),  # paths of files that are there
    }
    sounds = re.compile(r"secret|password|_key$|_keys$|token$|_uri$")
    named = {name for name in Settings.model_fields if sounds.search(name)}

    assert named - public <= set(secret_settings())


@pytest.mark.parametrize(
    "given",
    [
        f"https://user:{MARKER}@collector.example/path",
        f"http://{MARKER}@127.0.0.1:4317",
        f"-----BEGIN PRIVATE KEY-----\n{MARKER}\n-----END PRIVATE KEY-----\n",
    ],
)
def test_no_other_setting_takes_a_secret(given: str) -> None:
    """A password in a URL, and a key in place of its file, are refused, and not shown in that."""
    texts = [name for name, field in Settings.model_fields.items() if field.annotation is str]
    assert {"otlp_endpoint", "apple_pay_identity_key", "grpc_key"} <= set(texts)

    for name in texts:
        with pytest.raises(SettingsError) as refused:
            with_environment({f"WALLET_{name.upper()}": given})
        assert f"WALLET_{name.upper()}" in str(refused.value)
        assert MARKER not in str(refused.value)


def test_settings_show_no_secret() -> None:
    """Neither as text, nor as they are represented, dumped or turned into JSON."""
    environment = accepted()
    settings = with_environment(environment)
    assert sum(MARKER in value for value in environment.values()) >= 8
    shown = [str(settings), repr(settings), settings.model_dump_json(), str(settings.model_dump())]

    assert MARKER not in "".join(shown)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_what_is_wrong_with_a_setting_is_said_without_its_value(name: str) -> None:
    """A secret that was put into the wrong variable does not come out as its error."""
    wrong = f"{MARKER}\n:{MARKER}"
    try:
        with_environment({f"WALLET_{name.upper()}": wrong})
    except SettingsError as error:
        assert MARKER not in str(error)  # noqa: PT017 - many settings take any text
        assert MARKER not in repr(error.__cause__)  # noqa: PT017


@pytest.mark.parametrize("command", [("config",), ("serve",), ("sidecar",), ("books", "verify")])
async def test_commands_print_no_secret(command: tuple[str, ...]) -> None:
    """What a command prints and complains about, while nothing can be reached, has no marker."""
    environment = accepted() | {
        "WALLET_LOG_LEVEL": "debug",
        "WALLET_GRPC_ADDRESS": "127.0.0.1:0",
        "WALLET_SIDECAR_ADDRESS": "127.0.0.1:0",
        "WALLET_METRICS_ADDRESS": "127.0.0.1:0",
    }
    process = await start(
        *command,
        environment=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = b""
    try:
        async with asyncio.timeout(20):
            while b"waiting for MongoDB" not in said and b"sidecar listens" not in said:
                if not (chunk := await process.stdout.read(65_536)):
                    break
                said += chunk
    finally:
        if process.returncode is None:
            process.terminate()
        said += (await process.communicate())[0]

    assert said
    assert MARKER not in said.decode()


def texts_of(value: Any) -> Iterator[str]:
    """Go through everything that a document holds, bytes too."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield str(name)
            yield from texts_of(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts_of(part)
    else:
        yield value.decode("latin-1") if isinstance(value, bytes) else str(value)


async def test_a_running_service_tells_no_secret(
    mongodb_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Top-ups, webhooks good and bad, refused calls: no log, answer, metric or document has one."""
    caplog.set_level("DEBUG")
    secrets: dict[str, Any] = {
        "razorpay_key_secret": f"{MARKER}-1",
        "stripe_secret_key": f"sk_test_{MARKER}",
        "stripe_webhook_secrets": (SecretStr(f"whsec_{MARKER}"),),
        "paypal_client_secret": f"{MARKER}-2",
    }
    said = []
    uri = with_database(mongodb_uri, unique("secrets"))
    async with running_harness(uri, **secrets) as harness:
        customer = await harness.customer(1_000)
        for gateway, method in (("razorpay", "card"), ("stripe", "card"), ("paypal", "paypal")):
            currency = "INR" if gateway == "razorpay" else "USD"
            topup = await harness.initiate(
                customer, 500, gateway=gateway, method=method, currency=currency
            )
            said.append(str(topup))
        status, answer = await harness.deliver(event_of("payment.captured", payment_of(topup)))
        said.append(f"{status} {answer}")
        bad = await harness.deliver(b'{"event": "x"}', X_Razorpay_Signature=MARKER)
        said.append(str(bad[0]))
        forged = bearer(f"{MARKER}.{MARKER}.{MARKER}")
        request = service.GetStatusRequest(customer_id=customer)
        said.append(str(await refusal_of(harness.call("GetStatus", request, metadata=forged))))
        async with harness.http.get(harness.metrics_url) as metrics:
            said.append(await metrics.text())
        said.append(repr(harness.settings))
        said.append(repr(vars(harness)))
        for name in await harness.database.list_collection_names():
            async for document in harness.database[name].find():
                said += texts_of(document)

    assert len(said) > 100
    assert [text for text in said if MARKER in text] == []
    assert MARKER not in caplog.text
