"""How far a proof of the books has come: all that it has to know to go on."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from server.ledger.books import WalletProof
from server.ledger.records import WalletKey
from server.ledger.usage import Usage, Window

_VERSION: Final = 2


class Phase(StrEnum):
    """What is being proven; in this order."""

    WALLETS = "WALLETS"
    ORDERS = "ORDERS"
    TOPUPS = "TOPUPS"
    SEALS = "SEALS"


@dataclass(slots=True)
class BooksReport:
    """What was proven."""

    wallets: int = 0
    transactions: int = 0
    orders: int = 0
    """Orders that this service has written to."""
    topups: int = 0
    seals: int = 0
    balances: Counter[str] = field(default_factory=Counter)
    """Currency -> minor units in all wallets together, by their entries."""
    accounts: Counter[str] = field(default_factory=Counter)
    """Account -> the sum of its postings; the wallets of a currency are one account."""
    differences: int = 0

    def figures(self) -> dict[str, Any]:
        """Return all figures by their names, as JSON takes them."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(slots=True)
class BooksState:
    """Where the proof stands."""

    report: BooksReport = field(default_factory=BooksReport)
    phase: Phase = Phase.WALLETS
    proof: WalletProof | None = None
    """The last wallet that was looked at; None before the first."""
    is_wallet_done: bool = True
    """Whether that wallet was gone through to its end."""
    last_id: str = ""
    """The last order or top-up that was looked at, in its phase."""
    passed: int = 0
    """About how many stored records were gone through, those of other services too."""


class BadState(Exception):
    """The text is no state of a proof, or that of a proof of other books."""


def write_state(state: BooksState, identity: str) -> str:
    """Write a state down; `identity` tells which ledger and seals it is about."""
    content = {
        "version": _VERSION,
        "identity": identity,
        "report": state.report.figures(),
        "phase": state.phase,
        "proof": None if state.proof is None else asdict(state.proof),
        "is_wallet_done": state.is_wallet_done,
        "last_id": state.last_id,
        "passed": state.passed,
    }
    return json.dumps(content)


def read_state(text: str, identity: str) -> BooksState:
    """Read a state.

    Raises:
        BadState.
    """
    try:
        content: dict[str, Any] = json.loads(text)
        version, of = content.pop("version"), content.pop("identity")
        if (version, of) != (_VERSION, identity):
            raise BadState("It is about another database or other seals.")
        report = content.pop("report")
        proof = content.pop("proof")
        for name in ("balances", "accounts"):
            report[name] = Counter(report[name])
        if proof is not None:
            proof["key"] = WalletKey(*proof["key"])
            usage = proof["usage"]
            windows = {name: Window(*usage[name]) for name in ("hour", "day", "month")}
            proof["usage"] = Usage(usage["time_ms"], **windows)
        return BooksState(
            report=BooksReport(**report),
            phase=Phase(content.pop("phase")),
            proof=None if proof is None else WalletProof(**proof),
            **content,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadState("It is not the state of a proof.") from None
