"""`wallet-payment books` as operators and auditors meet it: proving, going on, sealing."""

import asyncio
import hashlib
import json
import os
import pty
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import Int64
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bulk_books import write_bulk_books
from command_line import run_in_process, start
from harness import eventually, unique, with_database
from written_books import DAY_MS, START_MS, Names, WrittenBooks, written_books

FIRST, SECOND, THIRD = "2023-11-14", "2023-11-15", "2023-11-16"


@pytest.fixture
async def books(mongodb_uri: str) -> AsyncIterator[WrittenBooks]:
    """Books that may be falsified."""
    async with written_books(with_database(mongodb_uri, unique("sealed"))) as opened:
        yield opened


class Operator:
    """Whoever runs the commands, in a folder and with a sealing key of their own."""

    def __init__(self, books: WrittenBooks, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "seal-key.pem").write_bytes(pem)
        self.environment = {
            "WALLET_MONGODB_URI": books.uri,
            "WALLET_SEAL_KEY": f"@{folder / 'seal-key.pem'}",
        }

    async def run(self, *arguments: str, status: int = 0, **changes: str) -> tuple[str, str]:
        """Run `wallet-payment books` in a thread; return what it prints and what it complains."""
        return await run_in_process(
            *("books", *arguments),
            environment=self.environment | changes,
            folder=self.folder,
            status=status,
        )

    async def start(self, *arguments: str, **options: Any) -> asyncio.subprocess.Process:
        """Start `wallet-payment books` as a process of its own."""
        environment = self.environment | {"TERM": "xterm"}
        return await start("books", *arguments, environment=environment, cwd=self.folder, **options)

    async def interrupted_proof(self) -> tuple[int | None, bytes, bytes]:
        """Press Ctrl-C once a proof has kept how far it is; return its status and what it says."""
        pipe = asyncio.subprocess.PIPE
        process = await self.start("verify", "--resume", "state.json", stdout=pipe, stderr=pipe)

        async def is_kept() -> bool:
            return (self.folder / "state.json").exists() or process.returncode is not None

        await eventually(is_kept)
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
        return process.returncode, output, errors

    async def seal(self, *days: str) -> list[str]:
        """Seal days; return the files."""
        for day in days:
            await self.run("seal", "--date", day)
        return [f"book-seal-{day}.jsonl" for day in days]

    async def named(self, *arguments: str) -> list[tuple[str, str, str]]:
        """Return what `verify` names: kind, record and what."""
        output, errors = await self.run("verify", "--json", *arguments, status=1)
        assert errors == ""
        lines = [json.loads(line) for line in output.splitlines()]
        assert list(lines[-1]) == ["report"]
        found = [line["difference"] for line in lines[:-1]]
        assert lines[-1]["report"]["differences"] == len(found)
        return [(one["record"], one["record_id"], one["what"]) for one in found]


@pytest.fixture
def operator(books: WrittenBooks, tmp_path: Path) -> Operator:
    """An operator of the books."""
    return Operator(books, tmp_path)


async def three_days(books: WrittenBooks) -> list[Names]:
    """Return customers of whom the first is busy on three days, each other on one."""
    everyone = []
    for day in range(3):
        books.now_ms = START_MS + day * DAY_MS
        everyone.append(await books.busy_customer())
        await books.pay(everyone[0]["customer"], 1)
    return everyone


async def test_books_that_agree_say_so_with_their_accounts(
    books: WrittenBooks, operator: Operator
) -> None:
    """The report counts what was compared, and its accounts sum to zero."""
    await three_days(books)

    output, errors = await operator.run("verify")

    assert output.splitlines() == [
        "gateway:razorpay:INR                           INR -29.31",
        "orders:INR                                       INR 7.53",
        "wallets:INR                                     INR 21.78",
        "9 orders, 3 top-ups, 0 seals compared",
        "3 wallets, 21 transactions, INR 21.78 held: the books agree",
    ]
    assert errors == "0 of about 36 records\n"
    output, errors = await operator.run("verify", "--json")
    assert (json.loads(output)["report"]["balances"], errors) == ({"INR": 2_178}, "")


async def test_a_difference_is_printed_with_where_and_how_much(
    books: WrittenBooks, operator: Operator
) -> None:
    """Text and JSON name customer, currency, record, both values and the money in question."""
    names = await books.busy_customer()
    await books.database.orders.update_one(
        {"_id": names["order"]}, {"$set": {"amount": Int64(250)}}
    )

    output, _ = await operator.run("verify", status=1)
    as_json, _ = await operator.run("verify", "--json", status=1)

    what = f"amount is 250, 200 by PAYMENT {names['payment']}"
    assert output.splitlines()[0] == (
        f"DIFFERS  {names['customer']} INR order {names['order']}: {what}  [INR 0.50]"
    )
    assert output.splitlines()[-1].endswith(": 1 differences")
    assert json.loads(as_json.splitlines()[0])["difference"] == {
        "customer_id": names["customer"],
        "currency_code": "INR",
        "record": "order",
        "record_id": names["order"],
        "what": what,
        "minor_units": 50,
    }


async def test_a_terminal_sees_a_bar(books: WrittenBooks, operator: Operator) -> None:
    """On a terminal the progress is a bar that comes to its end."""
    await books.busy_customer()
    ours, theirs = pty.openpty()
    process = await operator.start("verify", stdout=asyncio.subprocess.DEVNULL, stderr=theirs)
    assert await process.wait() == 0
    os.close(theirs)

    shown = os.read(ours, 65_536).decode()
    os.close(ours)

    assert "proving" in shown
    assert "100%" in shown


async def test_an_interrupted_proof_is_gone_on_with(
    books: WrittenBooks, operator: Operator
) -> None:
    """Ctrl-C ends it with 130 and keeps how far it is; the same command goes on to one end."""
    written = await write_bulk_books(books.database, 2_000, 2, hot_rounds=400)
    status, output, errors = await operator.interrupted_proof()
    while status == 0:  # on a busy machine the proof may be at its end before Ctrl-C comes
        status, output, errors = await operator.interrupted_proof()

    assert (status, output) == (130, b"")
    assert b"interrupted: the same command goes on from there" in errors
    gone_on, progress = await operator.run("verify", "--resume", "state.json")
    assert f"2001 wallets, {written} transactions, INR 32560.00 held: the books agree" in gone_on
    assert "13200 orders, 4400 top-ups, 0 seals compared" in gone_on
    assert int(progress.split()[0]) >= 20_000
    assert not (operator.folder / "state.json").exists()


async def test_a_state_of_other_books_is_refused(books: WrittenBooks, operator: Operator) -> None:
    """What `--resume` names and cannot be gone on from is told, and left alone."""
    await books.busy_customer()
    file = operator.folder / "state.json"
    file.write_text('{"version": 1, "identity": "another"}')

    _, errors = await operator.run("verify", "--resume", "state.json", status=2)

    assert "state.json: It is about another database or other seals. Remove it" in errors
    assert file.exists()
    _, errors = await operator.run("verify", "state.json", status=2)
    assert "give --sealed with them" in errors


async def test_seals_follow_each_other_and_prove_untouched_books(
    books: WrittenBooks, operator: Operator
) -> None:
    """Three days are sealed, each after the other; payments later on contradict none of them."""
    everyone = await three_days(books)

    sealed, _ = await operator.run("seal", "--date", FIRST)
    assert f"sealed      {FIRST}: 1 heads, after the seal of none" in sealed
    public_key = sealed.split("public key  ")[1].split()[0]
    await operator.seal(SECOND, THIRD)
    await books.pay(everyone[0]["customer"], 1)

    from_files, _ = await operator.run(
        *("verify", "--sealed", f"book-seal-{SECOND}.jsonl", f"book-seal-{FIRST}.jsonl"),
        WALLET_SEAL_KEY="",
        WALLET_SEAL_PUBLIC_KEY=public_key,
    )
    kept, _ = await operator.run("verify", "--sealed")
    assert "2 seals compared" in from_files
    assert "the books agree" in from_files
    assert "3 seals compared" in kept


async def test_a_seal_holds_the_heads_at_the_end_of_its_day(
    books: WrittenBooks, operator: Operator
) -> None:
    """The file names each wallet that moved, as it was, and can be read by anybody."""
    everyone = await three_days(books)
    [file] = await operator.seal(SECOND)

    first, *lines = (operator.folder / file).read_bytes().splitlines(keepends=True)

    seal = json.loads(first)["seal"]
    assert (seal["date"], seal["previous_hash"], seal["heads"]) == (SECOND, "0" * 64, 2)
    assert seal["heads_digest"] == hashlib.sha256(b"".join(lines)).hexdigest()
    entries = [(await books.entries(one["customer"])) for one in everyone]
    heads = [entries[0][7], entries[1][5]]
    assert [json.loads(line) for line in lines] == [
        [one["customer_id"], "INR", one["sequence"], one["_id"], one["hash"]] for one in heads
    ]


async def test_a_rewritten_history_is_found_by_its_seal_alone(
    books: WrittenBooks, operator: Operator
) -> None:
    """One who alters an entry and recomputes all that depends on it contradicts the seal."""
    everyone = await three_days(books)
    files = await operator.seal(FIRST, SECOND)
    names = everyone[1]
    database = books.database
    await database.wallet_transactions.update_one(
        {"_id": names["payment"]}, {"$set": {"amount": Int64(-100)}}
    )
    await database.orders.update_one({"_id": names["order"]}, {"$set": {"amount": Int64(100)}})
    await books.recompute(names["customer"])
    sealed = json.loads((operator.folder / files[1]).read_bytes().splitlines()[2])

    agreed, _ = await operator.run("verify")
    assert "the books agree" in agreed
    found = await operator.named("--sealed", *files)

    now = (await books.entries(names["customer"]))[-1]["hash"]
    what = f"was sealed with hash {sealed[4]}, and has {now}: it or one before it was rewritten"
    assert found == [("seal", SECOND, f"entry {sealed[3]}, the head of 6 entries, {what}")]
    assert await operator.named("--sealed") == found


async def test_a_history_that_was_cut_off_is_found_by_its_seal(
    books: WrittenBooks, operator: Operator
) -> None:
    """Entries that were removed from the end, and a wallet that was removed whole, are missed."""
    everyone = await three_days(books)
    files = await operator.seal(FIRST, SECOND, THIRD)
    cut, removed = everyone[1], everyone[2]
    database = books.database
    await database.wallet_transactions.delete_one({"_id": cut["adjustment"]})
    await books.recompute(cut["customer"])
    for collection in ("wallets", "wallet_transactions", "orders", "topups"):
        await database[collection].delete_many({"customer_id": removed["customer"]})

    found = await operator.named("--sealed", *files)

    gone = "the head of 6 entries, is not in the ledger any more"
    assert found == [
        ("seal", SECOND, f"entry {cut['adjustment']}, {gone}"),
        ("seal", THIRD, f"entry {cut['adjustment']}, {gone}"),
        ("seal", THIRD, f"entry {removed['adjustment']}, {gone}"),
    ]


async def test_falsified_seals_are_found(books: WrittenBooks, operator: Operator) -> None:
    """A seal that another key signed, other heads, and a missing seal are each named."""
    await three_days(books)
    first, second, third = await operator.seal(FIRST, SECOND, THIRD)
    stranger = Operator(books, operator.folder / "elsewhere")
    path = operator.folder / second
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    heads = await operator.named("--sealed", first, second, third)
    assert heads == [("seal", SECOND, "its 1 heads are not the 2 that were signed")]

    path.write_bytes(b"".join([lines[0].replace(b'"heads": 2', b'"heads": 1'), *lines[1:]]))
    not_signed = "is not signed by this key, or was altered after it was"
    other = f"follows another seal of {SECOND} than the one that is here"
    assert await operator.named("--sealed", first, second, third) == [
        ("seal", SECOND, not_signed),
        ("seal", THIRD, other),
    ]

    strange = await stranger.named("--sealed")
    assert strange == [("seal", day, not_signed) for day in (FIRST, SECOND, THIRD)]
    await books.database.book_seals.delete_one({"_id": SECOND})
    missing = f"follows the seal of {SECOND}, which is missing"
    assert await operator.named("--sealed") == [("seal", THIRD, missing)]


async def test_days_are_sealed_once_and_forward(books: WrittenBooks, operator: Operator) -> None:
    """A sealed day gives its file again; today, an earlier day and another key are refused."""
    await three_days(books)
    [file] = await operator.seal(SECOND)
    written = (operator.folder / file).read_bytes()
    (operator.folder / file).unlink()

    told = json.loads((await operator.run("seal", "--date", SECOND, "--json"))[0])
    assert (told["date"], told["heads"], told["file"]) == (SECOND, 2, file)
    assert (operator.folder / file).read_bytes() == written
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    _, errors = await operator.run("seal", "--date", today, status=2)
    assert f"{today} is not over yet" in errors
    _, errors = await operator.run("seal", "--date", FIRST, status=2)
    assert f"{FIRST} comes before {SECOND}, which is sealed" in errors
    _, errors = await operator.run("seal", "--date", SECOND, status=2, WALLET_SEAL_KEY="")
    assert "openssl genpkey -algorithm ed25519" in errors
    stranger = Operator(books, operator.folder / "elsewhere")
    _, errors = await stranger.run("seal", "--date", SECOND, status=2)
    assert "was sealed with another key" in errors


@pytest.mark.parametrize(
    ("collection", "record", "change", "what"),
    [
        ("wallets", "wallet", {"head_hash": "0" * 64}, "is not the end of its entries"),
        ("wallet_transactions", "adjustment", {"order_id": "x"}, "has an altered entry"),
    ],
)
async def test_false_books_are_not_sealed(
    books: WrittenBooks,
    operator: Operator,
    collection: str,
    record: str,
    change: dict[str, str],
    what: str,
) -> None:
    """A head that does not fit its wallet or itself stops the seal, and nothing is kept."""
    names = await books.busy_customer()
    await books.database[collection].update_one({"_id": names[record]}, {"$set": change})

    _, errors = await operator.run("seal", "--date", FIRST, status=2)

    assert f"Nothing was sealed: the INR wallet of customer {names['customer']} {what}" in errors
    assert await books.database.book_seals.count_documents({}) == 0
    assert list(operator.folder.glob("*.jsonl*")) == []


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"seal": {"date": 1}, "signature": ""}'])
async def test_what_is_no_seal_is_refused(operator: Operator, content: str) -> None:
    """A file that holds no seal is named, and nothing is proven."""
    (operator.folder / "none.jsonl").write_text(content)

    _, errors = await operator.run("verify", "--sealed", "none.jsonl", status=2)

    assert "none.jsonl is not a seal of the books" in errors
    assert "Traceback" not in errors


async def test_heads_that_cannot_be_read_are_named_by_their_line(
    books: WrittenBooks, operator: Operator
) -> None:
    """A damaged line of a seal's file is told, with the file."""
    await books.busy_customer()
    [file] = await operator.seal(FIRST)
    with (operator.folder / file).open("ab") as opened:
        opened.write(b"damaged\n")

    _, errors = await operator.run("verify", "--sealed", file, status=2)

    assert f"Line 3 of {file} is not the head of a wallet" in errors


async def test_sealed_books_need_a_key_to_trust(books: WrittenBooks, operator: Operator) -> None:
    """Without a key the seals prove nothing, and a wrong one is named by its variable."""
    await books.busy_customer()

    _, errors = await operator.run("verify", "--sealed", status=2, WALLET_SEAL_KEY="")
    assert "WALLET_SEAL_PUBLIC_KEY is not set" in errors
    for name in ("WALLET_SEAL_KEY", "WALLET_SEAL_PUBLIC_KEY"):
        _, errors = await operator.run("verify", "--sealed", status=2, **{name: "c2VjcmV0"})
        assert f"{name}: takes an Ed25519" in errors
        assert "c2VjcmV0" not in errors
