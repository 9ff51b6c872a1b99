"""A real `wallet-payment up` on free ports, and a shell beside it to paste commands into."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from command_line import BIN, start

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Up:
    """A running `wallet-payment up` on free ports."""

    process: asyncio.subprocess.Process
    environment: dict[str, str]
    addresses: dict[str, str]
    printed: str

    async def paste(self, script: str) -> str:
        """Run a script in bash, with this environment's addresses; return what it prints."""
        for default, actual in self.addresses.items():
            script = script.replace(default, actual)
        process = await asyncio.create_subprocess_exec(
            *("bash", "-e", "-o", "pipefail", "-c", script),
            cwd=ROOT,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()


@asynccontextmanager
async def running_up(data_dir: Path) -> AsyncIterator[Up]:
    """Run everything by the command that the README names, as long as the context lasts."""
    any_port = "127.0.0.1:0"
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "WALLET_DATA_DIR": str(data_dir),
        "WALLET_GRPC_ADDRESS": any_port,
        "WALLET_SIDECAR_ADDRESS": any_port,
        "WALLET_METRICS_ADDRESS": any_port,
        "WALLET_SANDBOX_ADDRESS": any_port,
    }
    process = await start(
        "up",
        environment=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    printed = ""
    async with asyncio.timeout(60):
        while "Ctrl-C stops it." not in printed:
            line = await process.stdout.readline()
            assert line, printed
            printed += line.decode()
    found = dict(
        re.findall(r"^  (gRPC|webhooks|metrics|sandbox gateway) +(\S+)$", printed, re.MULTILINE)
    )
    pasting = {
        "WALLET_SERVER_TARGET": found["gRPC"],
        "WALLET_SANDBOX_ADDRESS": found["sandbox gateway"].removeprefix("http://"),
    }
    try:
        yield Up(
            process,
            environment | pasting,
            {
                "127.0.0.1:50051": found["gRPC"],
                "http://127.0.0.1:8080": found["webhooks"].removesuffix("/webhooks/razorpay"),
                "http://127.0.0.1:9464/metrics": found["metrics"],
                "http://127.0.0.1:8090": found["sandbox gateway"],
            },
            printed,
        )
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.wait()
