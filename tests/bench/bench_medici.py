"""medici, the double-entry ledger for Node.js on MongoDB: installed into build/, run, and proven.

It is the benchmark's only, and left out where `node` and `npm` are not present.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from bench_books import CUSTOMERS, BooksDiffer
from bench_processes import FOLDER, Program, running_command
from pymongo import MongoClient

_SOURCE: Final = FOLDER / "medici"
_INSTALLED: Final = FOLDER.parents[1] / "build" / "bench" / "medici"
_PACKAGES: Final = ("package.json", "package-lock.json")
_COMPLETE: Final = _INSTALLED / "node_modules" / ".package-lock.json"
"""npm writes it last."""
_INSTALL_SECONDS: Final = 120.0
_LOG_CHARACTERS: Final = 300


class NoMedici(Exception):
    """medici cannot run here; the message says why."""


async def install() -> None:
    """Have npm install medici as its lock file says, unless it is there.

    Raises:
        NoMedici.
    """
    if not shutil.which("node") or not shutil.which("npm"):
        raise NoMedici("node is not present")
    if all(_is_same(name) for name in _PACKAGES) and _COMPLETE.exists():
        return
    _INSTALLED.mkdir(parents=True, exist_ok=True)
    for name in _PACKAGES:
        shutil.copy(_SOURCE / name, _INSTALLED / name)
    process = await asyncio.create_subprocess_exec(
        *("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"),
        cwd=_INSTALLED,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_INSTALL_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise NoMedici("npm could not install medici in time") from None
    if process.returncode:
        why = said.decode("utf-8", "replace")[-_LOG_CHARACTERS:]
        raise NoMedici(f"npm could not install medici: {' '.join(why.split())}")


@asynccontextmanager
async def running_medici(uri: str, count: int) -> AsyncIterator[list[Program]]:
    """Run so many processes of medici on a database in which every customer has money."""
    async with AsyncExitStack() as programs:
        running: list[Program] = []
        for number in range(count):
            command = ("node", str(_SOURCE / "medici_load.mjs"), uri, str(number))
            program = await programs.enter_async_context(
                running_command("medici", *command, folder=_INSTALLED)
            )
            await program.read()
            running.append(program)
        await running[0].ask({"fund": CUSTOMERS})
        yield running


def prove_medici(uri: str, acknowledged: int) -> int:
    """Make sure that each acknowledged payment is in medici's journal; return how many are.

    Raises:
        BooksDiffer.
    """
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    with client:
        journals = client.get_default_database()["medici_journals"]
        came = journals.count_documents({}) - len(CUSTOMERS)
    if came < acknowledged:
        raise BooksDiffer(f"medici acknowledged {acknowledged} payments, its journal has {came}.")
    return came


def _is_same(name: str) -> bool:
    installed = _INSTALLED / name
    return installed.exists() and installed.read_bytes() == (_SOURCE / name).read_bytes()
