"""What `wallet-payment doctor` makes of what it finds: each finding says what to do."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from pydantic import SecretStr

from server.config import Settings, SettingsError, content_of
from server.store import schema
from server.store.checkup import DatabaseFacts

_OLDEST_MONGODB: Final = (5, 0)
_CLOCK_DOUBTFUL_SECONDS: Final = 2.0
_CLOCK_BROKEN_SECONDS: Final = 30.0
"""From here on tokens that were just made are refused."""
_LONG_LOCK_SECONDS: Final = 15
_MEMBERS_FOR_FAILOVER: Final = 3
_SOON: Final = timedelta(days=30)
_GIBIBYTE: Final = 1024**3
_LITTLE_DISK: Final = 5 * _GIBIBYTE


class Verdict(StrEnum):
    """How bad it is."""

    GOOD = "ok"
    DOUBTFUL = "warning"
    """It serves, and will not for long or not well."""
    BROKEN = "problem"
    """It has to be put right before serving."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was checked."""

    subject: str
    verdict: Verdict
    what: str
    to_do: str = ""


def check_settings(settings: Settings, mongodb_uri: str) -> list[Finding]:
    """Check whether `serve` would start with these settings on this database."""
    try:
        settings.model_copy(update={"mongodb_uri": SecretStr(mongodb_uri)}).check_serving()
    except SettingsError as error:
        return [Finding("settings", Verdict.BROKEN, line) for line in str(error).splitlines()]
    return [Finding("settings", Verdict.GOOD, "can be served with")]


def check_database(facts: DatabaseFacts) -> list[Finding]:
    """Judge a MongoDB by what it tells of itself."""
    return [
        _version(facts),
        _replica_set(facts),
        _locks(facts),
        _journal(facts),
        _schema(facts),
        _clock(facts),
    ]


def check_disk(folder: Path) -> Finding:
    """Check the room for the embedded database."""
    free = shutil.disk_usage(folder).free
    what = f"{free / _GIBIBYTE:.1f} GiB are free for {folder}"
    to_do = "Make room, or set WALLET_DATA_DIR to another folder: MongoDB stops when it is full."
    if free < _GIBIBYTE:
        return Finding("disk", Verdict.BROKEN, what, to_do)
    if free < _LITTLE_DISK:
        return Finding("disk", Verdict.DOUBTFUL, what, to_do)
    return Finding("disk", Verdict.GOOD, what)


def check_certificates(settings: Settings) -> list[Finding]:
    """Check until when each certificate counts that a setting holds or names."""
    now = datetime.now(UTC)
    findings = []
    for variable, certificate in _certificates(settings):
        end = certificate.not_valid_after_utc
        what = f"{variable}: {certificate.subject.rfc4514_string()} counts until {end:%Y-%m-%d}"
        to_do = "Get a new one; give both while customers' devices may still use the former."
        if end <= now:
            findings.append(Finding("certificate", Verdict.BROKEN, what, to_do))
        elif end <= now + _SOON:
            findings.append(Finding("certificate", Verdict.DOUBTFUL, what, to_do))
        else:
            findings.append(Finding("certificate", Verdict.GOOD, what))
    return findings


def _certificates(settings: Settings) -> Iterator[tuple[str, x509.Certificate]]:
    """Go through the certificates in all settings; what is unreadable is named elsewhere."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if not isinstance(value, str) or not value:
            continue
        try:
            is_file = not value.startswith("@") and "\n" not in value and Path(value).is_file()
            text = content_of(f"@{value}" if is_file else value)
            if "-----BEGIN CERTIFICATE-----" not in text:
                continue
            certificates = x509.load_pem_x509_certificates(text.encode())
        except (ValueError, OSError, x509.InvalidVersion):
            continue
        for certificate in certificates:
            yield f"WALLET_{name.upper()}", certificate


def _version(facts: DatabaseFacts) -> Finding:
    version = ".".join(map(str, facts.version[:3]))
    if facts.version < _OLDEST_MONGODB:
        to_do = "Upgrade it to 5.0 or newer: entries are read at one point in time."
        return Finding("MongoDB", Verdict.BROKEN, f"is {version}", to_do)
    return Finding("MongoDB", Verdict.GOOD, f"is {version}")


def _replica_set(facts: DatabaseFacts) -> Finding:
    if not facts.is_replica_set:
        return Finding(
            "replica set",
            Verdict.BROKEN,
            "there is none, and so there are no transactions",
            "Start mongod with --replSet and run rs.initiate() once.",
        )
    if 0 < facts.members < _MEMBERS_FOR_FAILOVER:
        return Finding(
            "replica set",
            Verdict.DOUBTFUL,
            f"members: {facts.members}, so nobody can pay while one is away",
            "Run three, on three machines.",
        )
    return Finding(
        "replica set", Verdict.GOOD, f"members: {facts.members or 'those of each shard'}"
    )


def _locks(facts: DatabaseFacts) -> Finding:
    seconds = facts.transaction_lifetime_seconds
    if seconds is None:
        return Finding("locks", Verdict.GOOD, "this user may not ask how long they last")
    if seconds > _LONG_LOCK_SECONDS:
        return Finding(
            "locks",
            Verdict.DOUBTFUL,
            f"a server that is killed leaves its wallets locked for {seconds} s",
            "Start mongod with --setParameter transactionLifetimeLimitSeconds=5.",
        )
    return Finding("locks", Verdict.GOOD, f"a killed server's last {seconds} s")


def _journal(facts: DatabaseFacts) -> Finding:
    if facts.journals_majority is False:
        return Finding(
            "journal",
            Verdict.DOUBTFUL,
            "writeConcernMajorityJournalDefault is off: reads may see what a power cut undoes",
            "Set it to true by rs.reconfig(). Commits ask for the journal themselves.",
        )
    return Finding("journal", Verdict.GOOD, "commits wait for a majority and its journal")


def _schema(facts: DatabaseFacts) -> Finding:
    if facts.schema_version == 0:
        return Finding(
            "schema",
            Verdict.DOUBTFUL,
            "the database is new",
            "The first start of a server makes its collections and indexes.",
        )
    if facts.schema_version > schema.VERSION:
        return Finding("schema", Verdict.BROKEN, str(schema.NewerSchema(facts.schema_version)))
    if facts.missing_indexes:
        return Finding(
            "schema",
            Verdict.BROKEN,
            f"indexes are missing: {', '.join(facts.missing_indexes)}",
            "Start a server of this release: it makes them. Find out who removed them.",
        )
    return Finding("schema", Verdict.GOOD, f"version {facts.schema_version}, every index is there")


def _clock(facts: DatabaseFacts) -> Finding:
    ahead = facts.clock_ahead_seconds
    what = f"MongoDB's is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    to_do = "Have both machines follow the same time (chrony, systemd-timesyncd)."
    if abs(ahead) > _CLOCK_BROKEN_SECONDS:
        return Finding("clock", Verdict.BROKEN, what, to_do)
    if abs(ahead) > _CLOCK_DOUBTFUL_SECONDS:
        return Finding("clock", Verdict.DOUBTFUL, what, to_do)
    return Finding("clock", Verdict.GOOD, what)
