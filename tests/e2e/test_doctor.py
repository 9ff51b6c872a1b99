"""`wallet-payment doctor`: each thing that can be wrong is found, with what to do."""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from command_line import run_in_process
from harness import (
    KEY_ID,
    KEY_SECRET,
    WEBHOOK_SECRET,
    Harness,
    free_port,
    jwt_keys,
    running_harness,
    with_database,
)
from server.cli.checks import Verdict, check_database
from server.store.checkup import DatabaseFacts

Examine = Callable[..., Awaitable[dict[str, list[dict[str, Any]]]]]
GOOD = DatabaseFacts((6, 0, 5, 0), True, 3, 0.1, 5, True, 1, ())


@pytest.fixture(scope="module")
async def shop(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service on a database of its own, whose indexes may be dropped."""
    async with running_harness(with_database(mongodb_uri, "examined")) as running:
        yield running


@pytest.fixture
def examine(shop: Harness, tmp_path: Path) -> Examine:
    """Run the doctor on the service's settings; return what it finds by subject."""

    async def examine(*, status: int = 0, **changes: str) -> dict[str, list[dict[str, Any]]]:
        environment = {
            "PATH": os.environ["PATH"],
            "WALLET_DATA_DIR": str(tmp_path),
            "WALLET_MONGODB_URI": shop.settings.mongodb_uri.get_secret_value(),
            "WALLET_JWT_KEYS": json.dumps(jwt_keys()),
            "WALLET_JWT_ALGORITHMS": "HS256",
            "WALLET_RAZORPAY_KEY_ID": KEY_ID,
            "WALLET_RAZORPAY_KEY_SECRET": KEY_SECRET,
            "WALLET_RAZORPAY_WEBHOOK_SECRETS": WEBHOOK_SECRET,
            "WALLET_RAZORPAY_API_URL": shop.settings.razorpay_api_url,
        } | changes
        output, _ = await run_in_process(
            "doctor", "--json", environment=environment, folder=tmp_path, status=status
        )
        assert KEY_SECRET not in output
        found: dict[str, list[dict[str, Any]]] = {}
        for finding in json.loads(output):
            found.setdefault(finding["subject"], []).append(finding)
        return found

    return examine


def verdicts(findings: dict[str, list[dict[str, Any]]]) -> dict[str, set[str]]:
    """Return how each subject was judged."""
    return {name: {one["verdict"] for one in of_it} for name, of_it in findings.items()}


async def test_what_is_well_is_told_so(examine: Examine) -> None:
    """A running service has no problem; its one MongoDB that can be lost is a warning."""
    assert verdicts(await examine()) == {
        "settings": {"ok"},
        "MongoDB": {"ok"},
        "replica set": {"warning"},
        "locks": {"ok"},
        "journal": {"ok"},
        "schema": {"ok"},
        "clock": {"ok"},
        "razorpay": {"ok"},
    }


async def test_wrong_credentials_are_told_by_the_gateway(examine: Examine) -> None:
    """The gateway's refusal is a problem that names what to check, and shows no secret."""
    found = await examine(status=1, WALLET_RAZORPAY_KEY_SECRET="wrong-secret")

    (finding,) = found["razorpay"]
    assert finding["verdict"] == "problem"
    assert "refuses what it is asked" in finding["what"]
    assert "wrong-secret" not in json.dumps(found)


async def test_a_gateway_that_is_not_there_is_told(examine: Examine) -> None:
    """Where nobody listens at the API's address, that is what is said."""
    url = f"http://127.0.0.1:{free_port()}"

    found = await examine(status=1, WALLET_RAZORPAY_API_URL=url)

    assert found["razorpay"][0]["what"] == "cannot be reached"


async def test_without_a_gateway_nothing_can_be_topped_up(examine: Examine) -> None:
    """No credentials at all are a warning: payments and refunds still work."""
    found = await examine(
        WALLET_RAZORPAY_KEY_ID="",
        WALLET_RAZORPAY_KEY_SECRET="",
        WALLET_RAZORPAY_WEBHOOK_SECRETS="",
    )

    assert verdicts(found)["gateways"] == {"warning"}


async def test_a_database_that_does_not_answer_is_told(examine: Examine) -> None:
    """The rest is checked all the same."""
    uri = f"mongodb://127.0.0.1:{free_port()}/x?replicaSet=none&serverSelectionTimeoutMS=200"

    found = await examine(status=1, WALLET_MONGODB_URI=uri)

    assert found["MongoDB"][0]["what"] == "does not answer"
    assert verdicts(found)["razorpay"] == {"ok"}


async def test_settings_that_cannot_be_served_with_are_told(examine: Examine) -> None:
    """What `serve` would refuse is a problem, each by its variable."""
    found = await examine(status=1, WALLET_MONGODB_URI="", WALLET_JWT_KEYS="")

    told = [one["what"].split()[0] for one in found["settings"]]
    assert told == ["WALLET_MONGODB_URI", "WALLET_JWT_KEYS"]
    assert verdicts(found)["disk"] <= {"ok", "warning"}


async def test_a_missing_index_is_told(shop: Harness, examine: Examine) -> None:
    """An index that somebody removed is named."""
    await shop.database.topups.drop_index("idempotency_id_1")

    found = await examine(status=1)

    assert found["schema"][0]["what"] == "indexes are missing: topups.idempotency_id_1"
    await shop.database.topups.create_index("idempotency_id", unique=True)


@pytest.mark.parametrize(
    ("days", "verdict"), [(-1, "problem"), (10, "warning"), (200, "ok")], ids=str
)
async def test_a_certificate_is_judged_by_its_end(
    examine: Examine, tmp_path: Path, days: int, verdict: str
) -> None:
    """A certificate that a setting names is told with its end, before it comes and after."""
    file = tmp_path / "root.pem"
    file.write_bytes(certificate(datetime.now(UTC) + timedelta(days=days)))

    found = await examine(
        status=1 if verdict == "problem" else 0, WALLET_APPLE_PAY_SESSION_ROOTS=str(file)
    )

    (finding,) = found["certificate"]
    assert finding["verdict"] == verdict
    assert finding["what"].startswith("WALLET_APPLE_PAY_SESSION_ROOTS: CN=a root counts until ")


def certificate(end: datetime) -> bytes:
    """Make a certificate that counts until `end`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a root")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(end - timedelta(days=365))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("changes", "subject", "verdict"),
    [
        ({}, "replica set", Verdict.GOOD),
        ({"version": (4, 4, 9, 0)}, "MongoDB", Verdict.BROKEN),
        ({"is_replica_set": False, "members": 0}, "replica set", Verdict.BROKEN),
        ({"members": 0}, "replica set", Verdict.GOOD),
        ({"members": 1}, "replica set", Verdict.DOUBTFUL),
        ({"transaction_lifetime_seconds": 60}, "locks", Verdict.DOUBTFUL),
        ({"transaction_lifetime_seconds": None}, "locks", Verdict.GOOD),
        ({"journals_majority": False}, "journal", Verdict.DOUBTFUL),
        ({"journals_majority": None}, "journal", Verdict.GOOD),
        ({"schema_version": 0}, "schema", Verdict.DOUBTFUL),
        ({"schema_version": 99}, "schema", Verdict.BROKEN),
        ({"clock_ahead_seconds": -3.0}, "clock", Verdict.DOUBTFUL),
        ({"clock_ahead_seconds": 31.0}, "clock", Verdict.BROKEN),
    ],
)
def test_each_fact_of_a_database_is_judged(
    changes: dict[str, Any], subject: str, verdict: Verdict
) -> None:
    """What keeps money safe or calls answered is a problem or a warning, with what to do."""
    findings = {one.subject: one for one in check_database(replace(GOOD, **changes))}

    assert findings[subject].verdict is verdict
    others = [one for name, one in findings.items() if name != subject]
    assert {one.verdict for one in others} == {Verdict.GOOD}
    if verdict is not Verdict.GOOD:
        assert findings[subject].to_do or "start the release" in findings[subject].what
