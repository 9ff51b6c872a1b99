"""What a target is, and what has to hold of whatever it takes or refuses."""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

from gateway_adapters.gateway import GatewayError
from server.rpc.errors import RpcError, as_rpc_error
from sim.loop import SimulatedLoop

_OURS: Final = ("server.", "gateway_adapters.", "wallet_payment.")
_MAX_STATUS_BYTES: Final = 8 * 1024
"""Details travel in headers, which break past that."""
_MAX_TEXT: Final = 1_000
_SHORTEST_TEXT: Final = 4
"""A shorter text of a library may stand in a message by chance."""
_LARGEST_STORED: Final = 2**63
_LONGEST_STORED: Final = 4_096
"""Of a text beside the raw body, which is kept as bytes."""


@dataclass(frozen=True)
class Target:
    """Code that takes bytes from outside."""

    name: str
    take: Callable[[bytes], object]
    """Returns what it read, which has to be fit to be stored."""
    refusals: tuple[type[Exception], ...]
    """All that it may raise."""
    seeds: Callable[[], Sequence[bytes]]
    """Inputs that are taken, made by our own code."""

    def run(self, content: bytes) -> bool:
        """Give it an input; return whether it was taken, and not refused as documented.

        Raises:
            Exception: anything else came out; AssertionError: something is wrong with the answer.
        """
        try:
            taken = self.take(content)
        except self.refusals as error:
            check_refusal(error)
            return False
        check_storable(taken)
        return True


def outcome_of(call: Coroutine[Any, Any, Any]) -> Any:
    """Carry out a coroutine in virtual time: it waits for nothing, and one that hangs is told."""
    results: list[Any] = []

    async def main() -> None:
        results.append(await call)

    SimulatedLoop(None).run(main())
    return results[0]


def check_refusal(error: Exception) -> None:
    """Make sure that a refusal is short, of a known reason, and quotes no library."""
    told = str(error)
    if isinstance(error, RpcError | GatewayError):
        refusal = as_rpc_error(error, "correlation")
        assert refusal.reason != "INTERNAL", repr(error)
        status = refusal.status()
        assert status.ByteSize() <= _MAX_STATUS_BYTES, status.ByteSize()
        told += refusal.message + str(status)
    assert len(str(error)) <= _MAX_TEXT, len(str(error))
    for foreign in _foreign_causes(error):
        text = str(foreign)
        assert len(text) < _SHORTEST_TEXT or text not in told, (told, foreign)


def check_storable(value: object) -> None:
    """Make sure that records can be written: texts as UTF-8, and numbers in 64 bits."""
    if isinstance(value, str):
        assert len(value.encode("utf-8")) <= _LONGEST_STORED, "a text is too long"
    elif isinstance(value, int):
        assert -_LARGEST_STORED <= value < _LARGEST_STORED, "a number is too large"
    elif isinstance(value, tuple | list):
        for one in value:
            check_storable(one)
    elif is_dataclass(value):
        for part in fields(value):
            check_storable(getattr(value, part.name))


def _foreign_causes(error: BaseException) -> Iterator[BaseException]:
    """Go through what a library raised before this was raised for it."""
    cause = error.__context__
    while cause is not None:
        if not type(cause).__module__.startswith(_OURS):
            yield cause
        cause = cause.__context__
