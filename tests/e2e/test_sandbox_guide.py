"""The guide to the sandbox's faults: its commands, pasted against a real `wallet-payment up`."""

import re
from typing import Final

import pytest

from gateway_adapters.sandbox.faults import ApiMode, WebhookMode
from running_up import ROOT, running_up

GATEWAYS: Final = ("razorpay", "paypal")
FIRST, *SECTIONS = (ROOT / "docs/guides/sandbox.md").read_text().split("\n### ")
BLOCK: Final = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
PENDING, FAILED, CREDITED = "PENDING", "FAILED", "CREDITED"
REVERSED, NEEDS_REVIEW, REFUSED = "REVERSED", "NEEDS_REVIEW", "GATEWAY_UNAVAILABLE"

ENDS: Final = {
    "A webhook comes late": [PENDING, PENDING, CREDITED],
    "A webhook comes many times": [PENDING, CREDITED],
    "Webhooks come in the wrong order": [PENDING, CREDITED, REVERSED],
    "A webhook is lost": [PENDING, PENDING, CREDITED],
    "A payment fails and is captured then": [PENDING, FAILED, CREDITED],
    "A payment stays undecided": [PENDING, PENDING, CREDITED],
    "Another amount is paid": [PENDING, NEEDS_REVIEW],
    "A refund from the dashboard": [PENDING],
    "A dispute": [PENDING, REVERSED],
    "The API answers with errors": [REFUSED, PENDING] * 2,
    "The API keeps silent, loses its answer, or is not there": [PENDING, PENDING] * 3,
}
"""The states and refusals that each section shows, in turn."""
LAST: Final = "All is well again"

Shown = dict[tuple[str, str], str]


@pytest.fixture(scope="module")
async def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """What the commands of each section and gateway print, pasted one after the other."""
    (prelude,) = BLOCK.findall(FIRST)
    script = prelude
    for section in SECTIONS:
        title = section.partition("\n")[0]
        for gateway, commands in zip(GATEWAYS, BLOCK.findall(section), strict=False):
            script += f"echo '### {title} ### {gateway}'\n{commands}"
    async with running_up(tmp_path_factory.mktemp("up")) as up:
        output = await up.paste(script)
        books = await up.paste("wallet-payment books verify")
    _, *parts = re.split(r"^### (.*) ### (.*)$", output, flags=re.MULTILINE)
    printed = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return {(title, gateway): text for title, gateway, text in printed} | {("", "books"): books}


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize("title", ENDS)
async def test_a_fault_ends_as_the_guide_says(shown: Shown, title: str, gateway: str) -> None:
    """Pasted as they stand, the commands of each gateway show the states that they are about."""
    told = re.findall(rf"(?<=TOPUP_STATE_)\w+|{REFUSED}", shown[title, gateway])

    assert told == ENDS[title]


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_a_refund_takes_its_own_amount_and_a_failed_one_nothing(
    shown: Shown, gateway: str
) -> None:
    """100.00 go from the wallet, and what failed comes back."""
    text = shown["A refund from the dashboard", gateway]

    before, refunded, failed = map(int, re.findall(r'"minor_units": "(\d+)"', text))

    assert (before - refunded, refunded - failed) == (10_000, 0)


async def test_after_all_faults_the_books_hold_what_was_paid(shown: Shown) -> None:
    """Five captures stayed whole and one but for a refund: nothing was lost, and nothing twice."""
    assert "INR 2900.00, USD 2900.00 held: the books agree" in shown["", "books"]


async def test_faults_can_be_ended(shown: Shown) -> None:
    """The last command leaves nothing due."""
    assert '{"api": null, "webhooks": null}' in shown[LAST, "razorpay"]


def test_the_guide_knows_every_section_and_every_fault() -> None:
    """No section goes untested, and no mode is left out of the table."""
    assert [section.partition("\n")[0] for section in SECTIONS] == [*ENDS, LAST]
    for mode in (*ApiMode, *WebhookMode):
        assert f"`{mode}`" in FIRST
