"""The commands of the operators' pages, pasted as they stand against a real `wallet-payment up`."""

import base64
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from pasted import blocks_of
from running_up import ROOT, Up, running_up


@pytest.fixture(scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """Everything, as a development machine has it."""
    (ROOT / "build").mkdir(exist_ok=True)
    async with running_up(tmp_path_factory.mktemp("operated")) as up:
        yield up


@pytest.mark.timeout(300)
async def test_each_line_of_the_pages_works_when_pasted(up: Up) -> None:
    """Deployment, upgrade and troubleshooting: tokens, settings, health, doctor, books, review."""
    pages = ("deployment", "upgrade", "troubleshooting")
    blocks = [block for page in pages for block in blocks_of(f"docs/operation/{page}.md")]
    assert len(blocks) == 4

    output = await up.paste("\n".join(blocks))

    assert "SERVING" in output.splitlines()
    assert output.count("takes the credentials") == 6
    assert "the books agree" in output
    assert "nothing waits for review" in output
    assert (ROOT / "build/sidecar.token").read_text().count(".") == 2
    assert "WALLET_MONGODB_URI=(secret" in (ROOT / "build/settings.txt").read_text()


async def test_a_day_is_sealed_and_compared_as_the_page_on_the_books_says(up: Up) -> None:
    """The file that was kept and the seals beside the books both agree."""
    blocks = blocks_of("docs/operation/books.md")
    assert len(blocks) == 2
    yesterday = datetime.now(UTC) - timedelta(days=1)

    output = await up.paste("\n".join(blocks).replace("2026-11-01", f"{yesterday:%Y-%m-%d}"))

    assert f"sealed      {yesterday:%Y-%m-%d}" in output
    assert output.count("1 seals compared") == 2
    assert output.count("the books agree") == 2


async def test_a_key_is_made_and_taken_as_the_page_on_encryption_says(up: Up) -> None:
    """The key that is printed is one that the settings take, and none is shown."""
    (block,) = blocks_of("docs/operation/encryption.md")

    output = await up.paste(f'{block}\nwallet-payment config\ncut -d : -f 2 "$KEYS"')

    assert "WALLET_ENCRYPTION_KEYS=(secret, set)  (set)" in output
    assert len(base64.b64decode(output.splitlines()[-1])) == 32


@pytest.mark.timeout(300)
async def test_a_stopped_member_is_copied_and_proven_elsewhere(up: Up) -> None:
    """The backup of the page is whole: the books of its copy agree, with all that was paid."""
    await up.paste("\n".join(blocks_of("README.md")))
    up.process.send_signal(signal.SIGINT)
    await up.process.wait()
    blocks = blocks_of("docs/operation/backup.md")
    assert len(blocks) == 2

    output = await up.paste("\n".join(blocks))

    assert "3 transactions, INR 350.00 held: the books agree" in output
