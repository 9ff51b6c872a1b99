"""The table of every event says what the code does, and leaves none out."""

from collections import Counter

import pytest
from test_google_pay_messages import callback, verify_callback

from event_samples import READ_EVENTS, SAMPLES, fact_of
from events_reference import PAGE, page, rows


@pytest.mark.parametrize("gateway", SAMPLES)
def test_every_event_that_an_adapter_reads_stands_in_the_table(gateway: str) -> None:
    """Each is sampled, and what is sampled beside them says nothing of money."""
    samples = SAMPLES[gateway]
    telling = {sample.kind for sample in samples if fact_of(gateway, sample) is not None}

    assert telling == READ_EVENTS[gateway]


@pytest.mark.parametrize("gateway", SAMPLES)
def test_no_line_of_the_table_comes_twice(gateway: str) -> None:
    """An event that depends on its content has a line for each case, told apart in words."""
    assert set(Counter(row.event for row in rows(gateway)).values()) == {1}


def test_the_table_is_what_the_code_does() -> None:
    """The page is written from the events' effects. Where this fails, write it anew and look."""
    assert PAGE.read_text("utf-8") == page(), ".venv/bin/python tests/events_reference.py"


@pytest.mark.parametrize("event_type", ["save", "del"])
def test_googles_callbacks_tell_of_passes_alone(event_type: str) -> None:
    """What Google signs is read to its type and its pass: there is no payment in it."""
    told = verify_callback(callback(eventType=event_type).body())

    assert told.event_type == event_type
    assert f"| `{event_type}` | is recorded, IGNORED |" in page()
