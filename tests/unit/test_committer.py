"""The commit path on a store in memory that has every fault: all of a batch, once, or nothing."""

import asyncio
from typing import Any

import pytest

from faulty_store import (
    Fault,
    Gate,
    Notes,
    balance,
    committer,
    give,
    payment,
    store_with,
)
from server.commit.committer import CommitSettings, Committer
from server.commit.errors import (
    CommandFailed,
    CommitError,
    Conflicted,
    NotStarted,
    QueueFull,
    Rejected,
    Unavailable,
)
from server.commit.lane import BatchLimit, RetryPolicy
from server.commit.port import (
    WriteConflict,
    WriteRefused,
)
from server.ledger.commands import PayOrder, RefundOrder
from server.ledger.decisions import PaymentReply, RefundReply
from server.ledger.money import Money
from server.ledger.records import (
    NO_METADATA,
    IdempotencyKey,
)
from server.ledger.rejection import Reason
from server.ledger.state import ChangeSet


async def start(work: Committer, *commands: PayOrder) -> list[asyncio.Task[Any]]:
    """Submit commands and return once all of them are queued or under way."""
    tasks = [asyncio.create_task(work.submit(command)) for command in commands]
    await asyncio.sleep(0)
    return tasks


async def test_what_comes_during_a_commit_forms_the_next_batch() -> None:
    """Seven commands that queue while one is being committed go in one batch, at once."""
    store, notes = store_with(100), Notes()
    gate = Gate(store)
    async with committer(store, notes) as work:
        (first,) = await start(work, payment())
        await gate.is_reached.wait()
        others = await start(work, *(payment() for _ in range(7)))
        assert work.queued == 7
        gate.is_open.set()
        replies = await asyncio.gather(first, *others)
    assert notes.batches == [1, 7]
    assert [len(changes.transactions) for changes in store.commits] == [1, 7]
    assert [reply.wallet.balance for reply in replies] == [90, 80, 70, 60, 50, 40, 30, 20]
    assert balance(store) == 20


async def test_a_batch_is_bounded() -> None:
    """No batch is larger than the setting says; the rest waits for the next one."""
    store, notes = store_with(100), Notes()
    gate = Gate(store)
    settings = CommitSettings(lanes=1, max_batch=3)
    async with committer(store, notes, settings) as work:
        tasks = await start(work, *(payment(1) for _ in range(8)))
        gate.is_open.set()
        await asyncio.gather(*tasks)
    assert notes.batches == [3, 3, 2]
    assert balance(store) == 92


async def test_commands_of_a_batch_see_each_other() -> None:
    """In one batch a wallet is not spent twice, and a key is not carried out twice."""
    store, notes = store_with(30), Notes()
    gate = Gate(store)
    async with committer(store, notes) as work:
        (first,) = await start(work, payment(10))
        await gate.is_reached.wait()
        same = payment(10, key="same", order="same")
        tasks = await start(work, same, same, payment(10), payment(10))
        gate.is_open.set()
        await first
        outcomes: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    one, again, last, short = outcomes
    assert one.transaction == again.transaction
    assert last.wallet.balance == 0
    assert isinstance(short, Rejected)
    assert short.rejection.reason is Reason.INSUFFICIENT_FUNDS
    assert balance(store) == 0


async def test_a_full_queue_refuses_and_does_nothing() -> None:
    """One more command than may wait is QueueFull at once; those that wait are carried out."""
    store, notes = store_with(100), Notes()
    gate = Gate(store)
    settings = CommitSettings(lanes=1, max_queue=3)
    async with committer(store, notes, settings) as work:
        (first,) = await start(work, payment())
        await gate.is_reached.wait()
        waiting = await start(work, *(payment() for _ in range(3)))
        with pytest.raises(QueueFull):
            await work.submit(payment())
        gate.is_open.set()
        await asyncio.gather(first, *waiting)
    assert balance(store) == 60


async def test_a_deadline_while_waiting_is_not_started() -> None:
    """Whose time is over before its turn is told NotStarted, and its command is never done."""
    store, notes = store_with(100), Notes()
    gate = Gate(store)
    async with committer(store, notes) as work:
        (first,) = await start(work, payment())
        await gate.is_reached.wait()
        with pytest.raises(NotStarted):
            await work.submit(payment(), timeout_seconds=0.01)
        gate.is_open.set()
        await first
        await work.submit(payment(1))
    assert balance(store) == 89


async def test_a_deadline_during_the_commit_leaves_the_outcome_open() -> None:
    """Whose time ends while its batch is under way is told Unavailable; a repeat settles it."""
    store, notes = store_with(100), Notes()
    gate = Gate(store)
    command = payment()
    async with committer(store, notes) as work:
        with pytest.raises(Unavailable):
            await work.submit(command, timeout_seconds=0.01)
        assert gate.is_reached.is_set()
        gate.is_open.set()
        reply = await work.submit(command)
    assert isinstance(reply, PaymentReply)
    assert reply.wallet.balance == 90
    assert balance(store) == 90


async def test_a_conflict_is_decided_anew() -> None:
    """After conflicts the batch is loaded and decided again, and takes effect once."""
    store, notes = store_with(100), Notes()
    store.faults.extend([Fault.CONFLICT, Fault.CONFLICT])
    async with committer(store, notes) as work:
        await work.submit(payment())
    assert notes.retries == ["WriteConflict"] * 2
    assert balance(store) == 90


async def test_another_writer_in_between_is_noticed() -> None:
    """Money that another server spends between load and commit is not spent again."""
    store, notes = store_with(10), Notes()
    other = committer(store, Notes())
    is_first = True

    async def spend_elsewhere() -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            await other.submit(payment(10))

    store.before_commit = spend_elsewhere
    async with other, committer(store, notes) as work:
        with pytest.raises(Rejected) as refused:
            await work.submit(payment(10))
    assert refused.value.rejection.reason is Reason.INSUFFICIENT_FUNDS
    assert notes.retries == ["WriteConflict"]
    assert balance(store) == 0


async def test_conflicts_to_the_end_are_conflicted() -> None:
    """Who loses against other writers again and again is told Conflicted; nothing was done."""
    store = store_with(100)
    store.faults.extend([Fault.CONFLICT] * 10_000)
    async with committer(store, Notes()) as work:
        with pytest.raises(Conflicted):
            await work.submit(payment(), timeout_seconds=0.05)
    assert balance(store) == 100


async def test_a_deadline_between_conflicts_is_conflicted() -> None:
    """Whose time ends while its batch waits to be tried again is told Conflicted."""
    store = store_with(100)
    store.faults.extend([Fault.CONFLICT] * 3)
    settings = CommitSettings(lanes=1, retry=RetryPolicy(first_seconds=5.0, most_seconds=0.02))
    async with committer(store, Notes(), settings) as work:
        with pytest.raises(Conflicted):
            await work.submit(payment(), timeout_seconds=0.01)
    assert balance(store) == 100


async def test_conflicts_after_a_lost_answer_are_not_called_nothing_done() -> None:
    """Where an earlier attempt may have been written, conflicts to the end say Unavailable."""
    store = store_with(100)
    store.faults.extend([Fault.REQUEST_LOST] + [Fault.CONFLICT] * 10_000)
    async with committer(store, Notes()) as work:
        with pytest.raises(Unavailable):
            await work.submit(payment())


async def test_a_store_that_refuses_after_a_lost_answer_is_not_called_nothing_done() -> None:
    """Where an earlier attempt may have been written, whatever ends the next one is Unavailable."""
    store = store_with(100)
    store.faults.append(Fault.REQUEST_LOST)
    store.refuses = lambda _: not store.faults
    async with committer(store, Notes()) as work:
        with pytest.raises(Unavailable):
            await work.submit(payment())
        with pytest.raises(CommandFailed):
            await work.submit(payment())


async def test_one_that_always_conflicts_does_not_take_its_neighbours_along() -> None:
    """A command that loses for ever is found and told; the other seven of its batch succeed."""
    store, notes = store_with(100), Notes()
    gate = Gate(store)

    def conflicts(changes: ChangeSet) -> bool:
        if any(t.order_id == "poison" for t in changes.transactions):
            raise WriteConflict
        return False

    store.refuses = conflicts
    async with committer(store, notes) as work:
        tasks = await start(work, *(payment(order="poison" if n == 3 else "") for n in range(8)))
        gate.is_open.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(PaymentReply) == 7
    assert isinstance(outcomes[3], Conflicted)
    assert balance(store) == 30


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.REQUEST_LOST, Fault.UNAVAILABLE])
@pytest.mark.parametrize("times", [1, 4])
async def test_an_attempt_without_answer_takes_effect_once(fault: Fault, times: int) -> None:
    """Whether the unanswered commit was written or not, each caller gets its one outcome."""
    store, notes = store_with(100), Notes()
    gate = Gate(store)
    store.faults.extend([fault] * times)
    commands = [payment(10) for _ in range(5)]
    async with committer(store, notes) as work:
        tasks = await start(work, *commands)
        gate.is_open.set()
        replies = await asyncio.gather(*tasks)
        again: list[Any] = await asyncio.gather(*(work.submit(command) for command in commands))
    assert [reply.wallet.balance for reply in replies] == [90, 80, 70, 60, 50]
    assert [reply.transaction for reply in again] == [reply.transaction for reply in replies]
    assert balance(store) == 50


async def test_a_rejection_after_a_lost_answer_is_no_second_word() -> None:
    """Paid with the answer lost, the caller is told paid, not that there is no money left."""
    store = store_with(10)
    store.faults.append(Fault.ANSWER_LOST)
    async with committer(store, Notes()) as work:
        reply = await work.submit(payment(10, order="o-1"))
    assert isinstance(reply, PaymentReply)
    assert balance(store) == 0


async def test_a_store_that_stays_away_is_unavailable() -> None:
    """Whose time ends while the store cannot be reached is told Unavailable."""
    store = store_with(100)
    store.faults.extend([Fault.UNAVAILABLE] * 10_000)
    async with committer(store, Notes()) as work:
        with pytest.raises(Unavailable):
            await work.submit(payment(), timeout_seconds=0.05)
        store.faults.clear()
        await work.submit(payment())
    assert balance(store) == 90


@pytest.mark.parametrize("place", range(8))
async def test_a_record_that_the_store_refuses_fails_alone(place: int) -> None:
    """Of a batch of eight the one whose record is not acceptable fails, wherever it stands."""
    store, notes = store_with(100), Notes()
    gate = Gate(store)
    store.refuses = lambda changes: "poison" in changes.orders
    orders = ["poison" if number == place else "" for number in range(8)]
    async with committer(store, notes) as work:
        tasks = await start(work, *(payment(order=order) for order in orders))
        gate.is_open.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    failed = outcomes.pop(place)
    assert isinstance(failed, CommandFailed)
    assert isinstance(failed.__cause__, WriteRefused)
    assert all(isinstance(outcome, PaymentReply) for outcome in outcomes)
    assert balance(store) == 30


async def test_a_record_that_cannot_be_read_fails_alone() -> None:
    """An order that breaks the load of its batch fails for itself; the other seven succeed."""
    store, notes = store_with(100), Notes()
    gate = Gate(store)
    store.unreadable_orders.add("poison")
    async with committer(store, notes) as work:
        tasks = await start(work, *(payment(order="poison" if n == 5 else "") for n in range(8)))
        gate.is_open.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes.pop(5), CommandFailed)
    assert all(isinstance(outcome, PaymentReply) for outcome in outcomes)
    assert balance(store) == 30


async def test_a_command_that_breaks_the_rules_themselves_fails_alone() -> None:
    """A command on which deciding raises fails for itself, in the same single commit."""
    store, notes = store_with(100), Notes()
    gate = Gate(store)
    poison = payment(metadata={"note": object()})
    async with committer(store, notes) as work:
        tasks = await start(work, payment(), poison, payment())
        gate.is_open.set()
        outcomes: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    one, failed, other = outcomes
    assert isinstance(failed, CommandFailed)
    assert isinstance(failed.__cause__, TypeError)
    assert (one.wallet.balance, other.wallet.balance) == (90, 80)
    assert len(store.commits) == 1


async def test_nothing_is_committed_for_rejections_and_repeats() -> None:
    """A batch that changes nothing costs no transaction."""
    store = store_with(100)
    command = payment(10)
    async with committer(store, Notes()) as work:
        first = await work.submit(command)
        again = await work.submit(command)
        with pytest.raises(Rejected):
            await work.submit(payment(1_000))
        with pytest.raises(Rejected):
            await work.submit(payment(1, customer="stranger"))
    assert isinstance(first, PaymentReply)
    assert isinstance(again, PaymentReply)
    assert again.transaction == first.transaction
    assert len(store.commits) == 1


async def test_a_caller_that_goes_away_leaves_the_others() -> None:
    """Cancelled in the queue a command is not carried out; its neighbours are."""
    store, notes = store_with(100), Notes()
    gate = Gate(store)
    async with committer(store, notes) as work:
        (first,) = await start(work, payment())
        await gate.is_reached.wait()
        tasks = await start(work, *(payment() for _ in range(5)))
        tasks[2].cancel()
        gate.is_open.set()
        await first
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes.pop(2), asyncio.CancelledError)
    assert all(isinstance(outcome, PaymentReply) for outcome in outcomes)
    assert balance(store) == 50


async def test_a_caller_that_goes_away_during_the_commit_does_not_stop_it() -> None:
    """Cancelled under way a command takes effect all the same, once, and a repeat finds it."""
    store, notes = store_with(100), Notes()
    gate = Gate(store)
    command = payment()
    async with committer(store, notes) as work:
        tasks = await start(work, command, payment())
        await gate.is_reached.wait()
        tasks[0].cancel()
        gate.is_open.set()
        assert (await tasks[1]).wallet.balance == 80
        reply = await work.submit(command)
    assert isinstance(reply, PaymentReply)
    assert reply.wallet.balance == 90
    assert balance(store) == 80


async def test_closing_carries_out_what_is_queued() -> None:
    """Leaving the committer answers what was submitted before, and takes nothing new."""
    store, notes = store_with(100), Notes()
    gate = Gate(store)
    work = committer(store, notes)
    async with work:
        tasks = await start(work, *(payment() for _ in range(6)))
        asyncio.get_running_loop().call_later(0.01, gate.is_open.set)
    outcomes = await asyncio.gather(*tasks)
    assert len(outcomes) == 6
    with pytest.raises(Unavailable):
        await work.submit(payment())
    assert balance(store) == 40


async def test_closing_does_not_wait_for_ever() -> None:
    """With a store that hangs, leaving takes the time that the settings give and no more."""
    store = store_with(100)
    Gate(store)
    settings = CommitSettings(lanes=1, drain_seconds=0.02, budget_seconds=0.1)
    async with asyncio.timeout(2):
        async with committer(store, Notes(), settings) as work:
            (task,) = await start(work, payment())
        with pytest.raises(CommitError):
            await task
    assert balance(store) == 100


async def test_lanes_do_not_wait_for_each_other() -> None:
    """A customer whose lane is busy does not hold up a customer of another lane."""
    store = store_with(100)
    customers = [f"customer-{number}" for number in range(32)]
    for customer in customers:
        give(store, 100, customer)
    is_open = asyncio.Event()
    is_reached = asyncio.Event()
    is_first = True

    async def hold_the_first() -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            is_reached.set()
            await is_open.wait()

    store.before_commit = hold_the_first
    settings = CommitSettings(lanes=4)
    async with committer(store, Notes(), settings) as work:
        (held,) = await start(work, payment())
        await is_reached.wait()
        tasks = await start(work, *(payment(customer=customer) for customer in customers))
        done, _ = await asyncio.wait(tasks, timeout=0.2)
        assert 0 < len(done) < len(tasks)
        is_open.set()
        await asyncio.gather(held, *tasks)
    assert all(balance(store, customer) == 90 for customer in customers)


async def test_a_payment_and_its_refunds_in_any_batches_conserve_money() -> None:
    """Payments and refunds through every kind of fault leave exactly what their replies say."""
    store, notes = store_with(1_000), Notes()
    order = [Fault.CONFLICT, Fault.ANSWER_LOST, Fault.UNAVAILABLE, Fault.REQUEST_LOST]
    async with committer(store, notes) as work:
        for number in range(12):
            store.faults.extend(order[number % 4 :] + order[: number % 4])
            paid = [payment(10, order=f"round-{number}-{place}") for place in range(5)]
            replies = await asyncio.gather(*(work.submit(command) for command in paid))
            refunds = await asyncio.gather(
                *(
                    work.submit(
                        RefundOrder(
                            customer_id="asha",
                            order_id=command.order_id,
                            amount=Money("INR", 4),
                            idempotency_key=IdempotencyKey("shop", "RefundToWallet", key),
                            reason="",
                            metadata=NO_METADATA,
                        )
                    )
                    for command in paid
                    for key in (f"{command.order_id}-a", f"{command.order_id}-b")
                )
            )
            assert all(isinstance(reply, PaymentReply) for reply in replies)
            assert all(isinstance(reply, RefundReply) for reply in refunds)
    assert balance(store) == 1_000 - 12 * 5 * 2


def test_batches_shrink_while_the_store_is_slow_and_grow_back() -> None:
    """A batch that took too long halves the next ones, down to a floor; fast ones undo that."""
    limit = BatchLimit(most=256, slow_seconds=0.5)
    limit.learn(200, 0.6)
    assert limit.now == 100
    for _ in range(10):
        limit.learn(limit.now, 0.6)
    assert limit.now == 16
    for _ in range(40):
        limit.learn(limit.now, 0.1)
    assert limit.now == 256


def test_a_small_limit_stays_as_it_was_set() -> None:
    """A limit below the floor neither grows over what was set nor falls to nothing."""
    limit = BatchLimit(most=3, slow_seconds=0.5)
    limit.learn(3, 0.6)
    assert limit.now == 3
    limit.learn(3, 0.1)
    assert limit.now == 3
