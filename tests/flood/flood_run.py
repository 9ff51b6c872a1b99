"""A flood: a caller pays with and without an attack at the sidecar, and the books are proven."""

import asyncio
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from harness import (
    Harness,
    differences,
    event_of,
    eventually,
    free_port,
    payment_of,
    running_harness,
    signature_of,
    token,
    unique,
)
from payment_load import OPENING, Load, proven, serving
from wallet_payment.v1 import resources_pb2 as resources

_PROGRAM = Path(sys.executable).parent / "wallet-payment"
_CUSTOMERS = 16
_WEBHOOKS_PER_SECOND = 5


@dataclass(frozen=True, slots=True)
class Report:
    """What a flood came to."""

    quiet_per_second: list[float]
    attacked_per_second: list[float]
    quiet_per_server_second: list[float]
    """Payments for each second that the server computed: no other program on this machine, and no
    attacker's own work, changes this much."""
    attacked_per_server_second: list[float]
    answers: dict[str, int]
    """What the attacker was answered, and how often."""
    webhooks: int
    """Of a real gateway, all of which were taken."""
    webhooks_sent_again: int
    forged: resources.Topup
    """The top-up that the attacker claimed was paid, as it is afterwards."""
    sidecar_share: float
    """Of one core, while it was attacked."""
    sidecar_peak_mebibytes: float
    server_grown_mebibytes: float

    @property
    def server_ratio(self) -> float:
        """As `ratio`, for each second that the server computed."""
        return statistics.median(self.attacked_per_server_second) / statistics.median(
            self.quiet_per_server_second
        )

    @property
    def ratio(self) -> float:
        """The caller's throughput under attack over that without."""
        return statistics.median(self.attacked_per_second) / statistics.median(
            self.quiet_per_second
        )


async def run_flood(
    mongodb_uri: str, folder: Path, seconds: float, rounds: int, niceness: int = 0
) -> Report:
    """Alternate quiet and attacked phases of so many seconds; prove what came of them.

    `niceness` keeps the attacker from taking the processor that the attacked need.

    Raises:
        AssertionError: money moved that should not have, or a payment was lost.
    """
    async with AsyncExitStack() as stack:
        harness = await stack.enter_async_context(running_harness(mongodb_uri))
        customers = [await harness.customer(OPENING) for _ in range(_CUSTOMERS)]
        forged = await harness.initiate(await harness.customer(), 123_456)
        server, address = await stack.enter_async_context(serving(mongodb_uri))
        sidecar, url = await stack.enter_async_context(_running_sidecar(address))
        body_file = folder / "forged.json"
        body_file.write_bytes(event_of("payment.captured", payment_of(forged)))
        load = Load(address, customers)
        paying = asyncio.create_task(load.run())
        await eventually(load.is_under_way)
        gateway = _Gateway(harness, url)
        sending = asyncio.create_task(gateway.send())
        before_mebibytes = _memory(server.pid, "VmRSS")
        quiet, attacked = _Rates(load, server.pid), _Rates(load, server.pid)
        answers: Counter[str] = Counter()
        spent: list[float] = []
        for _ in range(rounds):
            await quiet.measure(seconds)
            async with _attack((url, str(body_file), str(niceness)), answers):
                before_seconds = _processor_seconds(sidecar.pid)
                await attacked.measure(seconds)
                spent.append((_processor_seconds(sidecar.pid) - before_seconds) / seconds)
        load.end()
        gateway.is_over = True
        await asyncio.gather(paying, sending)
        assert load.unanswered == []
        report = Report(
            quiet.per_second,
            attacked.per_second,
            quiet.per_server_second,
            attacked.per_server_second,
            dict(answers),
            gateway.taken,
            gateway.sent_again,
            await harness.topup(forged),
            statistics.mean(spent),
            _memory(sidecar.pid, "VmHWM"),
            _memory(server.pid, "VmHWM") - before_mebibytes,
        )
        await proven(harness, load, customers)
        assert await harness.balance(forged.customer_id) == 0
    assert await differences(mongodb_uri) == []
    return report


class _Gateway:
    """A real gateway: it signs, and sends again what is not taken."""

    def __init__(self, harness: Harness, url: str) -> None:
        self._http = harness.http
        self._url = f"{url}/webhooks/razorpay"
        self.is_over = False
        self.taken = 0
        self.sent_again = 0

    async def send(self) -> None:
        """Send events one after the other, until told to end."""
        while not self.is_over:
            body = event_of("payment.downtime.started", {"id": unique("pay"), "order_id": ""})
            headers = {
                "Content-Type": "application/json",
                "X-Razorpay-Event-Id": unique("evt"),
                "X-Razorpay-Signature": signature_of(body),
            }
            async with asyncio.timeout(60):
                while not await self._is_taken(body, headers):
                    self.sent_again += 1
                    await asyncio.sleep(0.2)
            self.taken += 1
            await asyncio.sleep(1 / _WEBHOOKS_PER_SECOND)

    async def _is_taken(self, body: bytes, headers: dict[str, str]) -> bool:
        try:
            async with self._http.post(self._url, data=body, headers=headers) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


class _Rates:
    """How many payments are acknowledged, phase by phase."""

    def __init__(self, load: Load, server_pid: int) -> None:
        self._load = load
        self._server_pid = server_pid
        self.per_second: list[float] = []
        self.per_server_second: list[float] = []

    async def measure(self, seconds: float) -> None:
        """Measure one phase."""
        loop = asyncio.get_running_loop()
        count, start = len(self._load.acknowledged), loop.time()
        computed = _processor_seconds(self._server_pid)
        await asyncio.sleep(seconds)
        count = len(self._load.acknowledged) - count
        self.per_second.append(count / (loop.time() - start))
        self.per_server_second.append(count / (_processor_seconds(self._server_pid) - computed))


@asynccontextmanager
async def _attack(arguments: tuple[str, ...], answers: Counter[str]) -> AsyncIterator[None]:
    """Attack as long as the context lasts, which is entered once the attack is under way.

    What the attacker was answered is added to `answers`.
    """
    attacker = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).parent / "flood_attack.py"),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert attacker.stdout is not None
    try:
        assert await attacker.stdout.readline()
        yield
        told, _ = await attacker.communicate(b"")  # which ends its standard input
        answers.update(json.loads(told))
    finally:
        if attacker.returncode is None:
            attacker.kill()
        await attacker.wait()


@asynccontextmanager
async def _running_sidecar(
    target: str,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run `wallet-payment sidecar` in a process of its own; yield it with its URL."""
    address = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", "5", str(_PROGRAM), "sidecar"),
        env={
            "PATH": os.environ["PATH"],
            "WALLET_SIDECAR_ADDRESS": address,
            "WALLET_SERVER_TARGET": target,
            "WALLET_SIDECAR_TOKEN": token(sub="sidecar", scope="webhook.forward"),
            "WALLET_LOG_LEVEL": "error",
        },
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://{address}"
    try:
        async with aiohttp.ClientSession() as session:

            async def is_ready() -> bool:
                assert process.returncode is None
                try:
                    async with session.get(f"{url}/readyz") as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await eventually(is_ready)
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _processor_seconds(pid: int) -> float:
    """Return how long a process has computed so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int, what: str) -> float:
    """Return a process's memory in MiB: VmRSS just now, or VmHWM at its peak."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0]) / 1024
    raise AssertionError(what)
