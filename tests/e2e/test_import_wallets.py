"""`wallet-payment import wallets` as operators meet it: what is written, once, and what is not."""

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from command_line import run_in_process, start
from harness import eventually, unique, with_database
from server.ledger.commands import RecordEvent
from server.ledger.money import Money
from server.ledger.records import (
    EventOrigin,
    EventOutcome,
    GatewayPayment,
    GatewayPaymentStatus,
    ReceivedEvent,
)
from server.store import schema
from written_books import START_MS, WrittenBooks, written_books

HEADER = "customer_id,currency_code,minor_units"
OPTIONS = ("--system", "old-shop", "--why", "we move in", "--by", "asha")


class Migration:
    """Books, a file of wallets, and whoever brings them in."""

    def __init__(self, books: WrittenBooks, folder: Path) -> None:
        self.books = books
        self.file = folder / "wallets.csv"
        self.environment = {"PATH": os.environ["PATH"], "WALLET_MONGODB_URI": books.uri}

    def write(self, *rows: tuple[str, str, object]) -> None:
        """Write the file."""
        lines = [",".join(map(str, row)) for row in rows]
        self.file.write_text("\n".join([HEADER, *lines]) + "\n", "utf-8")

    async def run(self, *arguments: str, status: int = 0) -> tuple[str, str]:
        """Run the command; return what it prints and what it complains."""
        return await run_in_process(
            *("import", "wallets", str(self.file), *OPTIONS, *arguments),
            environment=self.environment,
            folder=self.file.parent,
            status=status,
        )

    async def report(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        """Run the command; return what it tells a program."""
        output, _ = await self.run("--json", *arguments, status=status)
        report: dict[str, Any] = json.loads(output)
        return report

    async def entries(self) -> list[dict[str, Any]]:
        """Return the ledger's entries."""
        found: list[dict[str, Any]] = (
            await self.books.database[schema.TRANSACTIONS].find().to_list(None)
        )
        return found

    async def books_agree(self) -> bool:
        """Prove the books by their own command."""
        output, _ = await run_in_process(
            *("books", "verify"), environment=self.environment, folder=self.file.parent
        )
        return "the books agree" in output


@pytest.fixture
async def migration(mongodb_uri: str, tmp_path: Path) -> AsyncIterator[Migration]:
    """Empty books, and nothing in the file yet."""
    async with written_books(with_database(mongodb_uri, unique("import"))) as books:
        yield Migration(books, tmp_path)


async def test_without_apply_nothing_is_written(migration: Migration) -> None:
    """It tells what would come in, by currency, and what it is against."""
    asha, ben = await migration.books.customer(), await migration.books.customer()
    migration.write((asha, "INR", 12_345), (asha, "JPY", 7), (ben, "INR", 0))

    output, _ = await migration.run()

    assert output.splitlines() == [
        "MISSING              2 wallets  INR 123.45, JPY 7",
        "EMPTY                1 wallets  INR 0.00",
        "Nothing was written: --apply brings in what is MISSING.",
    ]
    assert await migration.entries() == []
    assert await migration.books.database[schema.EVENTS].count_documents({}) == 0


async def test_each_balance_comes_in_once_with_who_and_why(migration: Migration) -> None:
    """An ADJUSTMENT a wallet, against the earlier system; the same command again adds nothing."""
    asha, ben = await migration.books.customer(), await migration.books.customer()
    migration.write((asha, "INR", 12_345), (asha, "JPY", 7), (ben, "INR", 50))

    first = await migration.report("--apply")
    again = await migration.report("--apply")

    totals = {"IMPORTED": {"INR": 12_395, "JPY": 7}}
    assert (first["imported_now"], first["minor_units"]) == (3, totals)
    assert (again["imported_now"], again["minor_units"]) == (0, totals)
    entries = await migration.entries()
    assert sorted(entry["amount"] for entry in entries) == [7, 50, 12_345]
    for entry in entries:
        assert (entry["type"], entry["gateway"]) == ("ADJUSTMENT", "import-old-shop")
        assert entry["metadata"] == {"by": "asha", "why": "we move in"}
    waiting = {"outcome": "NEEDS_REVIEW"}
    assert await migration.books.database[schema.EVENTS].count_documents(waiting) == 0
    assert await migration.books_agree()


async def test_what_was_broken_off_between_its_two_steps_is_gone_on_with(
    migration: Migration,
) -> None:
    """The balance is recorded and not in the wallet yet: it comes in, once."""
    asha = await migration.books.customer()
    migration.write((asha, "INR", 50))
    body = f"{asha},INR,50".encode()
    event = ReceivedEvent(
        *("import-old-shop", f"{asha}:INR", "balance", hashlib.sha256(body).hexdigest(), body),
        *(EventOrigin.LOOKUP, START_MS, START_MS),
    )
    payment = GatewayPayment(f"{asha}:INR", "", GatewayPaymentStatus.CAPTURED, Money("INR", 50))
    await migration.books.carry_out(
        RecordEvent(event, EventOutcome.NEEDS_REVIEW, "broken off", payment)
    )

    assert (await migration.report("--apply"))["imported_now"] == 1

    assert [entry["amount"] for entry in await migration.entries()] == [50]
    assert await migration.books.database[schema.EVENTS].count_documents({}) == 1
    assert await migration.books_agree()


async def test_what_is_encrypted_is_looked_up_all_the_same(migration: Migration) -> None:
    """With keys, who and why are not readable in the database, and a repeat finds what is in."""
    key = base64.b64encode(bytes(32)).decode()
    migration.environment["WALLET_ENCRYPTION_KEYS"] = f"first:{key}"
    asha = await migration.books.customer()
    migration.write((asha, "INR", 50))

    assert (await migration.report("--apply"))["imported_now"] == 1
    assert (await migration.report("--apply"))["wallets"] == {"IMPORTED": 1}

    (entry,) = await migration.entries()
    assert "we move in" not in str(entry)
    assert await migration.books_agree()


async def test_two_at_once_bring_each_balance_in_once(migration: Migration) -> None:
    """Whoever is second finds it done."""
    customers = [await migration.books.customer() for _ in range(30)]
    migration.write(*((customer, "INR", 10) for customer in customers))

    reports = await asyncio.gather(
        *(
            start(
                *("import", "wallets", str(migration.file), *OPTIONS, "--apply"),
                environment=migration.environment,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            for _ in range(2)
        )
    )

    assert [await process.wait() for process in reports] == [0, 0]
    assert [entry["amount"] for entry in await migration.entries()] == [10] * 30
    assert await migration.books_agree()


async def test_what_is_killed_is_gone_on_with_by_the_same_command(migration: Migration) -> None:
    """Killed in the middle, it has lost nothing, and the second run doubles nothing."""
    documents = [{"_id": f"{unique('many')}-{number}"} for number in range(1_500)]
    await migration.books.database[schema.CUSTOMERS].insert_many(documents)
    migration.write(*((document["_id"], "INR", 3) for document in documents))
    process = await start(
        *("import", "wallets", str(migration.file), *OPTIONS, "--apply"),
        environment=migration.environment,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def has_begun() -> bool:
        return await migration.books.database[schema.TRANSACTIONS].count_documents({}) > 0

    await eventually(has_begun)
    process.kill()
    await process.wait()
    before = len(await migration.entries())

    report = await migration.report("--apply")

    assert 0 < before < 1_500
    assert report["wallets"] == {"IMPORTED": 1_500}
    assert report["minor_units"] == {"IMPORTED": {"INR": 4_500}}
    entries = await migration.entries()
    assert [entry["amount"] for entry in entries] == [3] * 1_500
    assert len({entry["customer_id"] for entry in entries}) == 1_500
    assert await migration.books_agree()


async def test_what_cannot_come_in_is_named_and_the_rest_comes_in(migration: Migration) -> None:
    """Another amount than before moves nothing, nor does a balance of nobody."""
    asha, ben = await migration.books.customer(), await migration.books.customer()
    migration.write((asha, "INR", 100))
    await migration.run("--apply")
    migration.write((asha, "INR", 101), ("nobody", "INR", 5), (ben, "INR", 7))

    output, _ = await migration.run("--apply", status=1)

    assert output.splitlines() == [
        f"DIFFERS  {asha}:INR INR 1.01: was brought in with another amount",
        "NO_CUSTOMER  nobody:INR INR 0.05: the customer service does not know the customer",
        "DIFFERS              1 wallets  INR 1.01",
        "NO_CUSTOMER          1 wallets  INR 0.05",
        "IMPORTED             1 wallets  INR 0.07",
        "brought in now: 1 wallets, against import-old-shop",
    ]
    assert sorted(entry["amount"] for entry in await migration.entries()) == [7, 100]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("customer,currency,amount\n", "its first line has to be customer_id,"),
        (f"{HEADER}\nasha,INR,1\nasha,INR,2\n", "line 3: the INR wallet of this customer"),
        (f"{HEADER}\nasha,INR\n", "line 2: has 2 fields instead of 3"),
        (f"{HEADER}\n,INR,1\n", "line 2: a customer_id has 1 to 128 characters"),
        (f"{HEADER}\nasha,RUPEES,1\n", "line 2: currency_code takes a code"),
        (f"{HEADER}\nasha,INR,1.5\n", "line 2: minor_units takes a whole number"),
        (f"{HEADER}\nasha,INR,-5\n", "line 2: minor_units takes a whole number"),
        (f"{HEADER}\nasha,INR,{10**14 + 1}\n", "line 2: minor_units is 100,000,000,000,000"),
        (f"{HEADER}\nasha,INR,{'9' * 5_000}\n", "line 2: minor_units is 100,000,000,000,000"),
        (f'{HEADER}\n"asha,INR,1\n', "cannot be read as CSV"),
    ],
)
async def test_a_file_with_a_wrong_line_is_refused_whole(
    migration: Migration, content: str, told: str
) -> None:
    """The line is named with what is wrong, and nothing is written."""
    migration.file.write_text(content, "utf-8")

    _, errors = await migration.run("--apply", status=2)

    assert told in errors
    assert await migration.entries() == []
