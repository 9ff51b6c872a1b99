"""What follows a payment at Razorpay: captures and refunds through the adapter, and its books."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from gateway_adapters.gateway import Fact, GatewayRefused, GatewayUnavailable, LookupProof, Movement
from razorpay_bench import AMOUNT, Bench, make_topup, running_bench, status
from server.ledger.money import Money
from server.ledger.records import GatewayPayment, GatewayPaymentStatus, GatewayReversal, Topup

FOREVER_MS = 32_503_680_000_000
"""The year 3000."""


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give a bench of its own to each test."""
    async with running_bench() as running:
        yield running


def reversals(facts: list[Fact]) -> list[GatewayReversal]:
    """Return the facts as the reversals that they all are."""
    found = [fact for fact in facts if isinstance(fact, GatewayReversal)]
    assert len(found) == len(facts)
    return found


@dataclass(frozen=True)
class Held:
    """A top-up with a payment that waits to be captured."""

    topup: Topup
    payment: GatewayPayment

    @property
    def path(self) -> str:
        """Where the sandbox controls the payment."""
        return f"/sandbox/payments/{self.payment.payment_id}"


async def hold(bench: Bench, **how: object) -> Held:
    """Let the customer pay without capture."""
    topup = await bench.opened()
    await bench.control(f"{topup.gateway_order_id}/pay", {"authorize_only": True, **how})
    report = await bench.razorpay.check_proof(topup, LookupProof())
    assert report is not None
    bench.line.seen.clear()
    return Held(topup, report.payment)


async def test_an_authorized_payment_is_captured_whole(bench: Bench) -> None:
    """Capturing sends the authorized amount, and gives the payment as it then is."""
    held = await hold(bench)
    report = await bench.razorpay.capture(held.topup, held.payment)
    assert report.payment == replace(held.payment, status=GatewayPaymentStatus.CAPTURED)
    assert held.payment.payment_id.encode() in report.body
    ((method, path, body),) = bench.line.seen
    assert (method, path) == ("POST", f"/v1/payments/{held.payment.payment_id}/capture")
    assert body == b'{"amount": 12345, "currency": "INR"}'


async def test_a_capture_that_came_meanwhile_is_a_success(bench: Bench) -> None:
    """Whoever captured it, the payment is returned as captured."""
    held = await hold(bench)
    await bench.control(f"{held.path}/capture")
    report = await bench.razorpay.capture(held.topup, held.payment)
    assert report.payment.status is GatewayPaymentStatus.CAPTURED
    assert [method for method, _, _ in bench.line.seen] == ["POST", "GET"]


async def test_a_lost_answer_to_a_capture_is_made_good(bench: Bench) -> None:
    """The repeat is refused as captured already, and the payment then fetched."""
    held = await hold(bench)
    bench.line.faults["POST"].append("lose the reply")
    report = await bench.razorpay.capture(held.topup, held.payment)
    assert report.payment.status is GatewayPaymentStatus.CAPTURED
    assert [method for method, _, _ in bench.line.seen] == ["POST", "POST", "GET"]


async def test_capture_called_twice_at_once(bench: Bench) -> None:
    """Mistake 8: of several captures at one moment one takes the money, and all succeed."""
    held = await hold(bench)
    captures = [bench.razorpay.capture(held.topup, held.payment) for _ in range(5)]
    reports = await asyncio.gather(*captures)
    assert {report.payment.status for report in reports} == {GatewayPaymentStatus.CAPTURED}
    listed = [movement async for movement in bench.razorpay.movements(0, FOREVER_MS)]
    assert [movement.fact.payment_id for movement in listed] == [held.payment.payment_id]


async def test_a_capture_that_is_refused_stays_refused(bench: Bench) -> None:
    """What Razorpay does not capture is told with its words, status and error code."""
    held = await hold(bench)
    wrong = replace(held.payment, amount=Money("INR", 12344))
    with pytest.raises(GatewayRefused, match="equal to the amount authorized") as refused:
        await bench.razorpay.capture(held.topup, wrong)
    assert refused.value.status == 400
    error = refused.value.content["error"]
    assert isinstance(error, dict)
    assert error["code"] == "BAD_REQUEST_ERROR"


async def test_a_payment_that_failed_meanwhile_is_returned_as_failed(bench: Bench) -> None:
    """A capture that comes too late tells what became of the payment instead."""
    topup = await bench.opened()
    failed = await bench.control(f"{topup.gateway_order_id}/fail")
    seen_before = GatewayPayment(
        failed["payment_id"], topup.gateway_order_id, GatewayPaymentStatus.AUTHORIZED, AMOUNT
    )
    report = await bench.razorpay.capture(topup, seen_before)
    assert report.payment.status is GatewayPaymentStatus.FAILED


async def test_a_strange_payment_is_not_captured(bench: Bench) -> None:
    """Nothing is asked for another order's payment, or with an id that leads elsewhere."""
    held = await hold(bench)
    for strange in (
        replace(held.payment, gateway_order_id="order_Another"),
        replace(held.payment, payment_id="pay_1/../../orders"),
    ):
        with pytest.raises(GatewayRefused):
            await bench.razorpay.capture(held.topup, strange)
    assert bench.line.seen == []


async def test_an_answer_about_another_payment_captures_nothing(bench: Bench) -> None:
    """What comes back from a capture has to be the payment that was sent."""
    held = await hold(bench)
    other = (
        b'{"id": "pay_Another", "amount": 12345, "currency": "INR", "status": "captured",'
        b' "order_id": null}'
    )
    bench.line.faults["POST"].append(status(200, other))
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.capture(held.topup, held.payment)


async def test_the_order_of_a_payment_is_found(bench: Bench) -> None:
    """A report that names only the payment leads to the order, and to none where there is none."""
    held = await hold(bench)
    order_id = await bench.razorpay.order_of(held.payment.payment_id)
    assert order_id == held.topup.gateway_order_id
    assert await bench.razorpay.order_of("pay_Unknown") == ""
    asked = len(bench.line.seen)
    assert await bench.razorpay.order_of("pay_1/../../orders") == ""
    assert len(bench.line.seen) == asked


async def test_a_lookup_tells_what_was_refunded_already(bench: Bench) -> None:
    """Refunds whose webhooks were lost come with the payment, each with its amount and state."""
    held = await hold(bench)
    await bench.control(f"{held.path}/capture")
    report = await bench.razorpay.check_proof(held.topup, LookupProof())
    assert report is not None
    assert report.reversals == ()
    made = [
        (await bench.control(f"{held.path}/refund", content))["refund"]
        for content in ({"amount": 345}, {"amount": 1000, "fail": True}, {})
    ]
    report = await bench.razorpay.check_proof(held.topup, LookupProof())
    assert report is not None
    assert report.payment.status is GatewayPaymentStatus.CAPTURED
    told = {one.reversal_id: one for one in report.reversals}
    states = ["TAKEN", "RETURNED", "TAKEN"]
    assert [told[one["id"]].state for one in made] == states
    assert [told[one["id"]].amount.minor_units for one in made] == [345, 1000, 12000]
    assert {one.gateway_order_id for one in report.reversals} == {held.topup.gateway_order_id}
    assert all(one.is_final for one in report.reversals)


async def test_while_refunds_cannot_be_asked_for_nothing_is_told(bench: Bench) -> None:
    """A payment that was partly taken back is not credited as if it were all there."""
    held = await hold(bench)
    await bench.control(f"{held.path}/capture")
    await bench.control(f"{held.path}/refund", {"amount": 345})
    bench.line.faults["GET"].extend(["pass", status(500), status(500)])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.check_proof(held.topup, LookupProof())


async def moved(bench: Bench, start_ms: int = 0, end_ms: int = FOREVER_MS) -> dict[str, Movement]:
    """Return what Razorpay moved in a time, by its id."""
    found: dict[str, Movement] = {}
    async for movement in bench.razorpay.movements(start_ms, end_ms):
        fact = movement.fact
        name = fact.reversal_id if isinstance(fact, GatewayReversal) else fact.payment_id
        assert name not in found
        found[name] = movement
    return found


async def test_the_books_have_captures_refunds_and_disputes(bench: Bench) -> None:
    """What failed or only waits moved no money; all else is told with its exact amount."""
    held = await hold(bench)
    order = held.topup.gateway_order_id
    await bench.control(f"{order}/fail")
    assert await moved(bench) == {}
    await bench.control(f"{held.path}/capture")
    refunds = [
        (await bench.control(f"{held.path}/refund", content))["refund"]["id"]
        for content in ({"amount": 345}, {"amount": 1000, "fail": True})
    ]
    disputes = []
    for step in ("", "win", "lose", "contest", "close"):
        made = (await bench.control(f"{held.path}/dispute", {"amount": 678}))["dispute"]["id"]
        disputes.append(made)
        if step:
            await bench.control(f"{held.path}/dispute/{made}/{step}")
    found = await moved(bench)
    assert set(found) == {held.payment.payment_id, *refunds, *disputes}
    captured = found[held.payment.payment_id].fact
    assert captured == replace(held.payment, status=GatewayPaymentStatus.CAPTURED)
    told = [found[name].fact for name in (*refunds, *disputes)]
    assert [(one.amount.minor_units, one.state, one.is_final) for one in reversals(told)] == [
        (345, "TAKEN", True),
        (1000, "RETURNED", True),
        (678, "TAKEN", False),
        (678, "RETURNED", True),
        (678, "TAKEN", True),
        (678, "TAKEN", False),
        (678, "RETURNED", True),
    ]


async def test_the_books_are_read_from_a_moment_to_before_another(bench: Bench) -> None:
    """The start belongs to the time and the end does not, to the millisecond."""
    held = await hold(bench)
    await bench.control(f"{held.path}/capture")
    name = held.payment.payment_id
    (movement,) = (await moved(bench)).values()
    time_ms = movement.time_ms
    for start_ms, end_ms, is_there in [
        (time_ms, time_ms + 1, True),
        (time_ms + 1, FOREVER_MS, False),
        (0, time_ms, False),
        (time_ms, time_ms, False),
        (-FOREVER_MS, FOREVER_MS, True),
    ]:
        assert (name in await moved(bench, start_ms, end_ms)) is is_there


async def test_the_books_are_read_to_their_last_page(bench: Bench) -> None:
    """More than Razorpay gives at once is read page by page, nothing missing and nothing twice."""
    names = []
    for number in range(101):
        topup = replace(make_topup(), topup_id=f"top_{number}")
        order_id = (await bench.razorpay.open_topup(topup)).gateway_order_id
        names.append((await bench.control(f"{order_id}/pay"))["payment_id"])
    bench.line.seen.clear()
    assert set(await moved(bench)) == set(names)
    assert len(bench.line.seen) == 4


async def test_an_entry_that_comes_again_counts_once(bench: Bench) -> None:
    """A page that moved on while it was read brings an entry twice, and it is told once."""
    entry = '{"id": "pay_1", "amount": 1, "currency": "INR", "status": "captured", "created_at": 1}'
    page = f'{{"items": [{",".join([entry] * 100)}]}}'.encode()
    bench.line.faults["GET"].extend([status(200, page), status(200, page)])
    assert set(await moved(bench)) == {"pay_1"}


async def test_books_that_cannot_be_read_are_not_guessed(bench: Bench) -> None:
    """One unreadable entry stops the reading: a comparison with half the books would mislead."""
    entry = b'{"items": [{"id": "pay_1", "amount": 1.5, "currency": "INR", "status": "captured"}]}'
    bench.line.faults["GET"].append(status(200, entry))
    with pytest.raises(GatewayUnavailable):
        await moved(bench)
