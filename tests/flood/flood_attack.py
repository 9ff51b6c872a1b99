"""An attacker at the sidecar, in a process of its own: `flood_attack.py URL BODY_FILE NICE`.

It attacks from many addresses of this machine until its standard input ends, and then writes what
it was answered as a line of JSON. It may have a low priority: a real one has machines of its own.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from yarl import URL

SIGNATURES_PER_SECOND: Final = 300
LARGE_PER_SECOND: Final = 20
SLOW_BODIES: Final = 150
SLOW_HEADS: Final = 150
HELD: Final = 600
_AGAIN_SECONDS: Final = 1.0
"""So long whoever was cut off waits, since the attacker computes on this machine, too."""
_ADDRESSES: Final = 24
_TOO_LARGE: Final = 300 * 1024
_JUST_NOT_TOO_LARGE: Final = 250 * 1024
_WEBHOOKS: Final = {"signature", "large", "too large"}
_HEAD: Final = (
    "POST /webhooks/razorpay HTTP/1.1\r\nHost: sidecar\r\nContent-Type: application/json\r\n"
)

Attack = Callable[[int], Coroutine[Any, Any, None]]


class Attacker:
    """Sends all that harms, and counts what it is answered."""

    def __init__(self, url: str, body: bytes) -> None:
        self._url = URL(url)
        self._body = body
        self.answers: Counter[str] = Counter()
        self.is_under_way = asyncio.Event()
        """Set once forged webhooks of every size were answered."""

    async def attack(self) -> None:
        """Attack in every way at once, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(_ADDRESSES):
                group.create_task(
                    self._send(number, "signature", self._body, SIGNATURES_PER_SECOND)
                )
                large = json.dumps(["x" * _JUST_NOT_TOO_LARGE]).encode()
                group.create_task(self._send(number, "large", large, LARGE_PER_SECOND / 2))
                too_large = b'"' + b"x" * _TOO_LARGE + b'"'
                group.create_task(self._send(number, "too large", too_large, LARGE_PER_SECOND / 2))
            for number in range(SLOW_BODIES):
                group.create_task(self._again(self._slow_body, number))
            for number in range(SLOW_HEADS):
                group.create_task(self._again(self._slow_head, number))
            for number in range(HELD):
                group.create_task(self._again(self._hold, number))

    async def _send(self, number: int, kind: str, body: bytes, per_second: float) -> None:
        """Send forged webhooks from one address, at its share of the rate."""
        connector = aiohttp.TCPConnector(local_addr=(_address(number), 0), limit=20)
        headers = {"Content-Type": "application/json", "X-Razorpay-Signature": "0" * 64}
        pause = _ADDRESSES / per_second
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):

            async def once() -> None:
                try:
                    url = self._url / "webhooks/razorpay"
                    async with session.post(url, data=body, headers=headers) as answer:
                        self.answers[f"{kind} {answer.status}"] += 1
                except aiohttp.ClientError:
                    self.answers[f"{kind} cut off"] += 1
                if {answer.rpartition(" ")[0] for answer in self.answers} >= _WEBHOOKS:
                    self.is_under_way.set()

            await asyncio.sleep(pause * number / _ADDRESSES)
            while True:
                group.create_task(once())
                await asyncio.sleep(pause)

    async def _again(self, attack: Attack, number: int) -> None:
        """Attack again whenever it has ended."""
        while True:
            try:
                await attack(number)
            except OSError:
                self.answers[f"{attack.__name__.strip('_')} refused"] += 1
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _slow_body(self, number: int) -> None:
        async with self._connection(number) as (reader, writer):
            writer.write(f"{_HEAD}Content-Length: 200000\r\n\r\n".encode())
            await self._drip(reader, writer, "slow body")

    async def _slow_head(self, number: int) -> None:
        async with self._connection(number) as (reader, writer):
            writer.write(_HEAD.encode())
            await self._drip(reader, writer, "slow head")

    async def _hold(self, number: int) -> None:
        async with self._connection(number) as (reader, _):
            await reader.read()
            self.answers["held cut off"] += 1

    async def _drip(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str
    ) -> None:
        answering = asyncio.create_task(reader.readline())
        try:
            while not answering.done():
                writer.write(b"x")
                await asyncio.wait([answering], timeout=0.5)
            line = answering.result()
            self.answers[f"{kind} {line.split()[1].decode() if line else 'cut off'}"] += 1
        finally:
            answering.cancel()

    @asynccontextmanager
    async def _connection(
        self, number: int
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(
            self._url.host, self._url.port, local_addr=(_address(number), 0)
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


def _address(number: int) -> str:
    """Return an address of this machine; whose number is the same has the same one."""
    return f"127.0.9.{number % _ADDRESSES + 1}"


async def main(url: str, body: bytes) -> None:
    """Attack until the standard input ends."""
    attacker = Attacker(url, body)
    attacking = asyncio.create_task(attacker.attack())
    ending = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await attacker.is_under_way.wait()
    sys.stdout.write("attacking\n")
    sys.stdout.flush()
    await asyncio.wait([attacking, ending], return_when=asyncio.FIRST_COMPLETED)
    if attacking.done():
        attacking.result()
    attacking.cancel()
    await asyncio.gather(attacking, return_exceptions=True)
    sys.stdout.write(json.dumps(attacker.answers) + "\n")
    sys.stdout.flush()
    os._exit(0)  # whatever still waits on the thread or a socket need not end in order


if __name__ == "__main__":
    os.nice(int(sys.argv[3]))
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes()))
