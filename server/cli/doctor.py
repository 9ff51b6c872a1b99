"""`wallet-payment doctor`: what is wrong with this installation, and what to do about it."""

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any, Final

import click

from gateway_adapters.gateway import Gateway, GatewayError, GatewayRefused
from gateway_adapters.guarded_session import guarded_session
from gateway_adapters.outbound import CredentialsRefused
from server.cli.answers import print_json
from server.cli.checks import (
    Finding,
    Verdict,
    check_certificates,
    check_database,
    check_disk,
    check_settings,
)
from server.cli.development import running_mongodb
from server.cli.operate import loaded_settings, operator_settings
from server.commit.committer import wall_clock_ms
from server.commit.port import StoreUnavailable, WriteRefused
from server.config import Settings, SettingsError
from server.gateways import gateways, outbound_hosts, wallets
from server.store.checkup import examine
from server.store.connection import BadConnectionString, connect

_CALL_SECONDS: Final = 20.0
_LOOK_BACK_MS: Final = 1_000


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Check settings, MongoDB, gateways, clock, certificates and disk, and say what to do.

    Nothing is changed. Each gateway is asked once for what it moved in the last second, which needs
    its credentials. Exit status 1: something has to be done before serving.
    """
    findings = asyncio.run(_findings(loaded_settings()))
    if as_json:
        print_json([_as_json(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{finding.verdict.value:<8}  {finding.subject:<12}  {finding.what}")
            if finding.to_do:
                click.echo(f"{'':<8}  {'':<12}  {finding.to_do}")
    if any(finding.verdict is Verdict.BROKEN for finding in findings):
        sys.exit(1)


async def _findings(given: Settings) -> list[Finding]:
    running = running_mongodb(given.data_dir)
    uri = given.mongodb_uri.get_secret_value() or running
    settings = operator_settings(given) if running else given
    findings = check_settings(settings, uri)
    if uri:
        findings += await _database(uri)
    if not given.mongodb_uri.get_secret_value() and given.data_dir.exists():
        findings.append(check_disk(given.data_dir))
    findings += check_certificates(settings)
    return findings + await _gateways(settings)


async def _database(uri: str) -> list[Finding]:
    try:
        with connect(uri) as database:
            return check_database(await examine(database))
    except BadConnectionString as error:
        return [Finding("MongoDB", Verdict.BROKEN, str(error))]
    except StoreUnavailable:
        return [
            Finding(
                "MongoDB",
                Verdict.BROKEN,
                "does not answer",
                "Check WALLET_MONGODB_URI, the network on the way there, and that a primary is "
                "elected.",
            )
        ]
    except WriteRefused:
        return [
            Finding(
                "MongoDB",
                Verdict.BROKEN,
                "answers, and refuses this user",
                "Check the user and password in WALLET_MONGODB_URI; it needs readWrite and dbAdmin "
                "on the database.",
            )
        ]


async def _gateways(settings: Settings) -> list[Finding]:
    """Ask each gateway for something harmless, all at once."""
    async with AsyncExitStack() as resources:
        session = await resources.enter_async_context(guarded_session(outbound_hosts(settings)))
        try:
            found = gateways(settings, session)
            await wallets(settings, session, resources, wall_clock_ms)
        except SettingsError as error:
            return [Finding("gateways", Verdict.BROKEN, str(error))]
        if not found:
            return [
                Finding(
                    "gateways",
                    Verdict.DOUBTFUL,
                    "none has credentials here: no wallet can be topped up",
                    "Set those of one: `wallet-payment config` lists the variables.",
                )
            ]
        return list(await asyncio.gather(*(_gateway(gateway) for gateway in found.values())))


async def _gateway(gateway: Gateway) -> Finding:
    now_ms = wall_clock_ms()
    try:
        async with asyncio.timeout(_CALL_SECONDS):
            async for _ in gateway.movements(now_ms - _LOOK_BACK_MS, now_ms):
                break
    except (GatewayRefused, CredentialsRefused) as error:
        return Finding(
            gateway.name,
            Verdict.BROKEN,
            f"refuses what it is asked: {error}",
            "Check its key and secret, and that they are of the environment of its API's address; "
            "PayPal's account needs the permission Transaction Search, too.",
        )
    except (GatewayError, TimeoutError):
        return Finding(
            gateway.name,
            Verdict.BROKEN,
            "cannot be reached",
            "Check its API's address, the way out of this network, and the gateway's own status.",
        )
    return Finding(gateway.name, Verdict.GOOD, "takes the credentials")


def _as_json(finding: Finding) -> dict[str, Any]:
    return {
        "subject": finding.subject,
        "verdict": finding.verdict.value,
        "what": finding.what,
        "to_do": finding.to_do,
    }
