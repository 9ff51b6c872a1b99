"""One target under libFuzzer, in a process of its own: `python -m fuzz.engine NAME CORPUS ...`.

Coverage is measured in the service, and in the libraries in Python that read what is sent.
"""

import logging
import sys
from random import Random

import atheris
import structlog

from fuzz.changes import changed

with atheris.instrument_imports(include=["server", "gateway_adapters", "jwt", "asn1crypto"]):
    from fuzz.targets import TARGETS

_OWN_CHANGES = 0.7
"""How often the input is changed by what is known of it; otherwise libFuzzer changes its bytes."""


def main() -> None:
    """Run the target that the first argument names; libFuzzer reads the others."""
    program, name, *options = sys.argv
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    target = TARGETS[name]

    def take(content: bytes) -> None:
        target.run(content)

    atheris.Setup([program, *options], take, custom_mutator=_change)
    atheris.Fuzz()


def _change(content: bytes, max_size: int, seed: int) -> bytes:
    dice = Random(seed)
    if dice.random() < _OWN_CHANGES:
        return changed(content, dice)[:max_size]
    mutated: bytes = atheris.Mutate(content, max_size)
    return mutated


if __name__ == "__main__":
    main()
