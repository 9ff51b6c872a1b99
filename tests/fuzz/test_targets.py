"""A short round over every target, without coverage; `make fuzz` goes on for longer."""

from collections.abc import Sequence
from functools import cache
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.changes import changed
from fuzz.target import Target
from fuzz.targets import TARGETS

ALL = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
SHORT = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@cache
def seeds_of(target: Target) -> Sequence[bytes]:
    """Return the same seeds each time, though some are signed by chance anew."""
    return target.seeds()


@ALL
def test_what_our_own_code_makes_is_taken(target: Target) -> None:
    """Every seed is taken, so that its changes come as far as what stands behind signatures."""
    assert [seed for seed in seeds_of(target) if not target.run(seed)] == []


@ALL
@SHORT
@given(data=st.data())
def test_what_was_changed_is_taken_or_refused_as_documented(
    target: Target, data: st.DataObject
) -> None:
    """A good input with a few changes never raises what is not documented."""
    seed = data.draw(st.sampled_from(seeds_of(target)))
    target.run(changed(seed, data.draw(st.randoms(use_true_random=False))))


@ALL
@SHORT
@given(content=st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused_as_documented(target: Target, content: bytes) -> None:
    """Bytes without sense never raise what is not documented."""
    target.run(content)


def test_a_change_is_the_same_for_the_same_dice() -> None:
    """What a finding came from can be made again."""
    seed = b'{"a": [1, {"b": "c"}]}'
    changes = [changed(seed, Random(number)) for number in range(50)]
    assert changes == [changed(seed, Random(number)) for number in range(50)]
    assert len(set(changes)) > 25
