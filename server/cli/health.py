"""`wallet-payment health`: whether a server takes calls, for a container's health check."""

import asyncio
import sys
from typing import Final

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.cli.answers import print_json
from server.cli.server_link import server_channel
from server.config import load_settings

_SECONDS: Final = 3


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def health(as_json: bool) -> None:
    """Ask WALLET_SERVER_TARGET by gRPC health whether it serves; exit status 1: it does not."""
    settings = load_settings()
    target = settings.server_target

    async def run() -> str:
        request = health_pb2.HealthCheckRequest()
        async with server_channel(settings) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=_SECONDS)
            except grpc.aio.AioRpcError:
                return "UNREACHABLE"
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    told = asyncio.run(run())
    if as_json:
        print_json({"target": target, "status": told})
    else:
        click.echo(told)
    if told != "SERVING":
        sys.exit(1)
