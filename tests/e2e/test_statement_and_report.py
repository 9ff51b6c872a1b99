"""`wallet-payment statement` and `report`: their figures are those of the ledger."""

import csv
import io
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from bson import Int64
from bson.datetime_ms import DatetimeMS

from command_line import run_in_process
from harness import unique, with_database
from server.ledger import chain
from server.ledger.money import Money
from server.ledger.records import WalletKey
from written_books import DAY_MS, START_MS, Names, WrittenBooks, written_books

Run = Callable[..., Awaitable[tuple[str, str]]]
TIME = ("--from", "2023-11-14", "--to", "2023-11-17")
DAYS = ("--from", "2023-11-14", "--to", "2023-11-16")


class Cells(HTMLParser):
    """Reads the rows of a page's tables, and notes whatever would be fetched or run."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.facts: list[str] = []
        self.foreign: list[str] = []
        self.bars: dict[str, list[str]] = {}
        """By the plot's title, what each bar says that it is."""
        self.lines: dict[str, list[tuple[float, float]]] = {}
        """By the plot's title, the points of its line."""
        self._plot = ""
        self._cell = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Start a row or a cell."""
        self._cell = ""
        if tag == "tr":
            self.rows.append([])
        if tag in {"script", "link", "img", "iframe", "object"}:
            self.foreign.append(tag)
        self.foreign += [name for name, _ in attrs if name in {"src", "href", "style"}]
        told = dict(attrs)
        if tag == "svg":
            self._plot = told["aria-label"] or ""
        if tag == "polyline":
            points = (told["points"] or "").split()
            self.lines[self._plot] = [
                (float(x), float(y)) for x, y in (p.split(",") for p in points)
            ]

    def handle_data(self, data: str) -> None:
        """Take a text."""
        self._cell += data

    def handle_endtag(self, tag: str) -> None:
        """End a cell."""
        if tag in {"td", "th"}:
            self.rows[-1].append(self._cell)
        if tag in {"dt", "dd"}:
            self.facts.append(self._cell)
        if tag == "title" and self._plot and self._cell != self._plot:
            self.bars.setdefault(self._plot, []).append(self._cell)


def read_page(file: Path) -> Cells:
    """Read a page that a command wrote."""
    cells = Cells()
    cells.feed(file.read_text("utf-8"))
    assert cells.foreign == []
    return cells


@pytest.fixture
async def books(mongodb_uri: str) -> AsyncIterator[WrittenBooks]:
    """Books with a clock that the test sets."""
    async with written_books(with_database(mongodb_uri, unique("reported"))) as opened:
        yield opened


@pytest.fixture
def run(books: WrittenBooks, tmp_path: Path) -> Run:
    """The command line on these books."""

    async def run(*arguments: str, status: int = 0) -> tuple[str, str]:
        environment = {"WALLET_MONGODB_URI": books.uri, "WALLET_DATA_DIR": str(tmp_path)}
        return await run_in_process(
            *arguments, environment=environment, folder=tmp_path, status=status
        )

    return run


async def three_days(books: WrittenBooks) -> list[Names]:
    """Return customers with an entry of every type, one a day; the first pays on each day."""
    everyone = []
    for day in range(3):
        books.now_ms = START_MS + day * DAY_MS
        everyone.append(await books.busy_customer())
        books.now_ms += 1_000
        await books.pay(everyone[0]["customer"], 1)
    return everyone


async def test_a_statement_tells_each_entry_in_every_form(
    books: WrittenBooks, run: Run, tmp_path: Path
) -> None:
    """Table, CSV, JSON and page have the ledger's entries, from the opening to the closing."""
    customer = (await three_days(books))[0]["customer"]
    stored = await books.entries(customer)
    assert len(stored) == 9

    table, _ = await run("statement", customer, "inr", *TIME)
    as_csv, _ = await run("statement", customer, "INR", *TIME, "--csv")
    as_json, _ = await run("statement", customer, "INR", *TIME, "--json")
    told, _ = await run("statement", customer, "INR", *TIME, "--html", "page.html")

    lines = table.splitlines()
    assert len(lines) == 12
    assert lines[1].split()[1:] == ["opening", "INR", "0.00"]
    assert lines[-1].split()[1:] == ["closing", "INR", "7.24"]
    rows = list(csv.DictReader(io.StringIO(as_csv)))
    assert [int(row["amount_minor_units"]) for row in rows] == [one["amount"] for one in stored]
    assert [row["hash"] for row in rows] == [one["hash"] for one in stored]
    assert (rows[-1]["balance"], rows[-1]["amount"]) == ("7.24", "-0.01")
    *entries, last = [json.loads(line) for line in as_json.splitlines()]
    ids = [entry["entry"]["transaction_id"] for entry in entries]
    assert ids == [one["_id"] for one in stored]
    summary = last["statement"]
    assert (summary["opening_minor_units"], summary["closing_minor_units"]) == (0, 724)
    assert sum(one["minor_units"] for one in summary["sums"].values()) == 724
    assert told == "page.html: INR 7.24 at the end\n"
    page = read_page(tmp_path / "page.html")
    assert [row[4] for row in page.rows[1:]] == [str(Money("INR", one["amount"])) for one in stored]
    assert page.facts[-2:] == ["closing", "INR 7.24"]
    assert (tmp_path / "page.html").read_text().count("<polyline") == 1


async def test_a_statement_opens_with_what_was_there_before(books: WrittenBooks, run: Run) -> None:
    """A later time has only its own entries, and goes on from the balance before them."""
    customer = (await three_days(books))[0]["customer"]

    later = ("--from", "2023-11-15", "--to", "2023-11-16")
    as_json, _ = await run("statement", customer, "INR", *later, "--json")

    entry, last = [json.loads(line) for line in as_json.splitlines()]
    assert entry["entry"]["amount_minor_units"] == -1
    assert last["statement"]["opening_minor_units"] == 726
    assert last["statement"]["closing_minor_units"] == 725


async def test_entries_that_do_not_follow_each_other_are_told(
    books: WrittenBooks, run: Run
) -> None:
    """A falsified amount breaks the statement off, and names the proof of the books."""
    names = await books.busy_customer()
    await books.database.wallet_transactions.update_one(
        {"_id": names["payment"]}, {"$set": {"amount": Int64(-199)}}
    )

    _, errors = await run("statement", names["customer"], "INR", *TIME, status=2)

    assert f"The balance after {names['payment']} is" in errors
    assert "books verify" in errors


async def test_a_report_has_the_ledgers_figures(
    books: WrittenBooks, run: Run, tmp_path: Path
) -> None:
    """Day by day, what moved by type and what was held are the sums of the entries, exactly."""
    await three_days(books)
    entries = await books.database.wallet_transactions.find({}).to_list(None)
    expected: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        expected[_day_of(entry), entry["type"]] += entry["amount"]

    output, errors = await run("report", *DAYS, "--json", "--html", "report.html")

    assert errors == ""
    figures: dict[str, Any] = json.loads(output)
    days = figures["days"]["INR"]
    found = {
        (day, kind): one["minor_units"]
        for day, told in days.items()
        for kind, one in told["moved"].items()
    }
    assert found == dict(expected)
    running = [sum(v for (day, _), v in expected.items() if day <= last) for last in sorted(days)]
    assert [days[day]["held_minor_units"] for day in sorted(days)] == running
    wallets = await books.database.wallets.find({}).to_list(None)
    assert running[-1] == sum(wallet["balance"] for wallet in wallets)
    assert figures["topups_credited"] == [
        {
            "gateway": "razorpay",
            "method": "upi",
            "currency_code": "INR",
            "count": 3,
            "minor_units": 3_000,
        }
    ]
    (outcome,) = figures["topups_started"]
    assert (outcome["credited"], outcome["ended"]) == (3, 3)
    assert figures["times_to_credit"]["razorpay"]["up to 1 s"] == 3
    page = read_page(tmp_path / "report.html")
    by_day = {row[0]: row for row in page.rows if row and row[0].startswith("2023-")}
    counts = Counter((_day_of(entry), entry["type"]) for entry in entries)
    kinds = ("TOPUP", "PAYMENT", "REFUND", "REVERSAL", "ADJUSTMENT")
    for day, held in zip(sorted(days), running, strict=True):
        cells = [f"{Money('INR', expected[day, kind])} ({counts[day, kind]})" for kind in kinds]
        shown = [cell if counts[day, kind] else "" for kind, cell in zip(kinds, cells, strict=True)]
        assert by_day[day][1:] == [*shown, str(Money("INR", held))]
    moved_at_all = [kind for kind in kinds if any(counts[day, kind] for day in days)]
    assert page.bars["INR in and out by day"] == [
        str(Money("INR", expected[day, kind])) for kind in moved_at_all for day in sorted(days)
    ]
    assert page.bars["INR in by gateway and method"] == ["INR 30.00"]
    assert page.bars["Top-ups that ended and were credited"] == ["100 %"]
    assert page.bars["Time from start to credit"] == ["3", *["0"] * 9]
    heights = [-y for _, y in page.lines["INR held"]]
    grows = (heights[2] - heights[0]) / (heights[1] - heights[0])
    assert grows == pytest.approx((running[2] - running[0]) / (running[1] - running[0]), rel=0.01)


def _day_of(entry: dict[str, Any]) -> str:
    return f"2023-11-{14 + (int(entry['create_time']) - START_MS) // DAY_MS}"


async def test_a_report_of_some_days_opens_with_what_was_held(
    books: WrittenBooks, run: Run
) -> None:
    """Days before count for what was held at first, days after do not count, empty ones stand."""
    await three_days(books)
    books.now_ms = START_MS + 5 * DAY_MS
    await books.busy_customer()

    figures = json.loads(
        (await run("report", "--from", "2023-11-16", "--to", "2023-11-18", "--json"))[0]
    )

    assert figures["opening"] == {"INR": 2 * 727 - 2}
    held = [one["held_minor_units"] for one in figures["days"]["INR"].values()]
    assert held == [2_178] * 3
    output, errors = await run("report", "--from", "2023-11-16", "--to", "2023-11-18")
    assert "INR 21.78  held at the end" in output
    assert re.match(r"0 of about \d+ records\n", errors)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("report", "--from", "2023-11-16", "--to", "2023-11-15"), "--from must not be after"),
        (("report", "--from", "2020-11-16", "--to", "2023-11-15"), "400 days at most"),
        (("statement", "a", "INR", "--from", "2023-11-16", "--to", "2023-11-15"), "before --to"),
        (("statement", "a", "INR", "--csv", "--json"), "Give one of"),
        (("statement", "a", "INR", "--html", "none/a.html"), "the folder none is not there"),
        (("report", "--html", "none/a.html"), "the folder none is not there"),
    ],
)
async def test_a_time_that_makes_no_sense_is_refused(
    run: Run, arguments: tuple[str, ...], says: str
) -> None:
    """What cannot be told is refused with what to change."""
    _, errors = await run(*arguments, status=2)

    assert says in errors


async def test_a_wallet_that_there_is_not_is_told(books: WrittenBooks, run: Run) -> None:
    """A mistyped name does not look like a wallet in which nothing moved."""
    customer = (await books.busy_customer())["customer"]

    _, of_nobody = await run("statement", "nobody", "INR", *TIME)
    _, of_another = await run("statement", customer, "USD", *TIME)
    _, of_no_time = await run(
        "statement", customer, "INR", "--from", "2020-01-01", "--to", "2020-02-01"
    )

    assert of_nobody == "nobody has no wallet in INR, nor in any other currency.\n"
    assert of_another == f"{customer} has no wallet in USD, but in INR.\n"
    assert of_no_time == ""


@pytest.mark.timeout(600)
async def test_a_report_over_100_000_entries_stays_in_bounded_memory(
    mongodb_uri: str, tmp_path: Path
) -> None:
    """Report and statement of 100,000 entries take little more memory than those of none."""
    small, large = (with_database(mongodb_uri, unique("memory")) for _ in range(2))
    async with written_books(small), written_books(large) as filled:
        await write_long_wallet(filled, 100_000)
        peaks = {}
        for name, uri in (("small", small), ("large", large)):
            for arguments in (
                ("report", *DAYS, "--json", "--html", "report.html"),
                ("statement", "hot", "INR", *TIME, "--html", "page.html"),
            ):
                peaks[name, arguments[0]] = peak_megabytes(uri, tmp_path, arguments)

    statement = (tmp_path / "page.html").read_text("utf-8")
    assert "<dt>closing</dt><dd>INR 1000.00</dd>" in statement
    assert statement.count("<tr>") == 100_001
    assert "INR 1000.00" in read_page(tmp_path / "report.html").facts
    for command in ("report", "statement"):
        assert peaks["large", command] - peaks["small", command] < 40


async def write_long_wallet(books: WrittenBooks, entries: int) -> None:
    """Write a wallet of so many entries, of 1 paisa each, as far as reports look at them."""
    wallet = WalletKey("hot", "INR")
    for first in range(0, entries, 10_000):
        rows = [
            {
                "_id": chain.transaction_id(wallet, sequence, START_MS + sequence),
                "customer_id": wallet.customer_id,
                "currency": wallet.currency_code,
                "type": "REFUND",
                "amount": Int64(1),
                "balance_after": Int64(sequence),
                "sequence": Int64(sequence),
                "postings": [{"account": "a", "amount": Int64(1)}] * 2,
                "previous_hash": "",
                "hash": "",
                "create_time": DatetimeMS(START_MS + sequence),
            }
            for sequence in range(first + 1, first + 10_001)
        ]
        await books.database.wallet_transactions.insert_many(rows, ordered=False)


def peak_megabytes(uri: str, folder: Path, arguments: tuple[str, ...]) -> float:
    """Run a command as a process of its own; return the most memory that it had."""
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    command = [sys.executable, "-m", "server.cli", *arguments]
    output = subprocess.run(
        [sys.executable, "-c", script, *command],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env={"WALLET_MONGODB_URI": uri, "WALLET_DATA_DIR": str(folder)},
    ).stdout
    return int(output) / 1_024
