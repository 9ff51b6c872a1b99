"""The faults of a run: a seeded schedule, and how each is made and healed."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from replica_set import KeptProcess, ReplicaSet

_SECONDS_A_FAULT = 7.0


@dataclass(frozen=True, slots=True)
class Targets:
    """What the faults befall."""

    replica_set: ReplicaSet
    servers: list[KeptProcess]
    sidecar: KeptProcess
    http: aiohttp.ClientSession
    sandbox_url: str


class Faults:
    """Brings the faults of a seed about, one after another."""

    def __init__(self, targets: Targets, seed: int, seconds: float) -> None:
        self._targets = targets
        self._choose = random.Random(seed)
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill the primary": self._kill_primary,
            "kill a server": self._kill_server,
            "gateway outage": self._gateway_outage,
            "stop the primary": self._stop_primary,
            "stop a server": self._stop_server,
            "kill a secondary": self._kill_secondary,
            "gateway loses answers": self._gateway_loses_answers,
            "kill the sidecar": self._kill_sidecar,
            "stop a secondary": self._stop_secondary,
            "gateway answers 500": self._gateway_answers_500,
            "gateway keeps silent": self._gateway_keeps_silent,
            "webhooks suffer": self._webhooks_suffer,
        }
        self.schedule = self._scheduled(max(4, round(seconds / _SECONDS_A_FAULT)))
        self._pause = seconds / len(self.schedule)
        self.done: list[str] = []

    async def run(self) -> None:
        """Bring about all that is scheduled, each at its time or when the one before is over."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number, kind in enumerate(self.schedule):
            await asyncio.sleep(max(0.0, start + number * self._pause - loop.time()))
            await self._kinds[kind]()
            self.done.append(kind)

    async def heal(self) -> None:
        """End what may last, and wait until MongoDB is whole."""
        await self._ask(api=None, webhooks=None)
        await self._targets.replica_set.whole()

    def _scheduled(self, count: int) -> list[str]:
        """Return the kinds in turn: the gravest come first in a short run, shuffled in each."""
        kinds = list(self._kinds)
        schedule: list[str] = []
        while len(schedule) < count:
            turn = kinds[: count - len(schedule)]
            self._choose.shuffle(turn)
            schedule += turn
        return schedule

    async def _kill_primary(self) -> None:
        (await self._targets.replica_set.primary()).send(signal.SIGKILL)

    async def _kill_secondary(self) -> None:
        secondaries = await self._targets.replica_set.secondaries()
        self._choose.choice(secondaries).send(signal.SIGKILL)

    async def _stop_primary(self) -> None:
        await self._stop(await self._targets.replica_set.primary())

    async def _stop_secondary(self) -> None:
        await self._stop(self._choose.choice(await self._targets.replica_set.secondaries()))

    async def _kill_server(self) -> None:
        self._choose.choice(self._targets.servers).send(signal.SIGKILL)

    async def _stop_server(self) -> None:
        await self._stop(self._choose.choice(self._targets.servers))

    async def _kill_sidecar(self) -> None:
        self._targets.sidecar.send(signal.SIGKILL)

    async def _gateway_outage(self) -> None:
        await self._ask(api={"mode": "refuse_connections", "times": 1_000})
        await asyncio.sleep(self._choose.uniform(2, 5))
        await self._ask(api=None)

    async def _gateway_loses_answers(self) -> None:
        await self._ask(api={"mode": "lose_answer", "times": self._choose.randint(3, 15)})

    async def _gateway_answers_500(self) -> None:
        await self._ask(api={"mode": "error500", "times": self._choose.randint(3, 15)})

    async def _gateway_keeps_silent(self) -> None:
        await self._ask(api={"mode": "timeout", "times": self._choose.randint(2, 6), "seconds": 5})

    async def _webhooks_suffer(self) -> None:
        mode = self._choose.choice(["delay", "duplicate", "reorder", "lose"])
        fault = {"mode": mode, "times": self._choose.randint(3, 15), "seconds": 2}
        await self._ask(webhooks=fault | ({"copies": 3} if mode == "duplicate" else {}))

    async def _stop(self, process: KeptProcess) -> None:
        """Stop a process for longer than an election takes, and let it go on."""
        process.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(self._choose.uniform(1.5, 4))
        finally:
            process.send(signal.SIGCONT)

    async def _ask(self, **faults: Any) -> None:
        url = f"{self._targets.sandbox_url}/sandbox/faults"
        async with self._targets.http.post(url, json=faults) as answer:
            assert answer.status == 200, await answer.text()
