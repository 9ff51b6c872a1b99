"""Every reason for which a call is refused: `docs/reference/errors.md` is written here.

    .venv/bin/python tests/errors_reference.py

The meaning is the contract's own comment, the code is the edge's table, the metadata is read from
the places in `server/` that refuse, the advice is the order service's guide, and whether a repeat
helps is the group of the Python client's exception.
"""

import ast
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

from api_reference import comments_of_reasons
from server.rpc.errors import STATUS_CODES
from wallet_payment.client import errors as client

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "reference" / "errors.md"
GUIDE: Final = ROOT / "docs" / "guides" / "integrate-the-order-service.md"

Keys = frozenset[str]
Names = dict[str, Keys]
"""The dictionaries that a place in the code knows by name, with their keys."""

_NAMED_KEYS: Final = {"MISMATCH": ("mismatch",), "whose": ("caller", "customer")}
"""Keys that the code gives by a name."""

_NEVER_BY_A_CALL: Final = ("review.py",)
"""What answers operators' commands alone."""

_REPEATS: Final[dict[type[client.WalletPaymentError], str]] = {
    client.WrongRequest: "no: change the request",
    client.NotAllowed: "not as it was called",
    client.NotFound: "once it exists",
    client.Refused: "once its cause is gone",
    client.TryAgain: "**yes**, with the same key",
}


def page() -> str:
    """Return the whole page."""
    meanings, advice, keys = comments_of_reasons(), _advice(), metadata_keys()
    lines = ["| reason | code | when | metadata | do | repeat |", "| " + "--- | " * 6]
    for reason, code in STATUS_CODES.items():
        metadata = ", ".join(f"`{key}`" for key in sorted(keys[reason]))
        meaning = meanings[reason].removeprefix(f"{code.name}. ")
        meaning = meaning.removeprefix(f"{code.name}, with `google.rpc.RetryInfo`. ")
        cells = (f"`{reason}`", code.name, meaning, metadata, advice[reason], _repeat(reason))
        lines.append(f"| {' | '.join(cells)} |")
    return _TEXT.format(table="\n".join(line.rstrip() for line in lines))


def metadata_keys() -> dict[str, Keys]:
    """Return the keys of each reason's metadata, from every place in `server/` that refuses."""
    found: dict[str, Keys] = dict.fromkeys(STATUS_CODES, frozenset())
    for file in sorted((ROOT / "server").rglob("*.py")):
        if file.name in _NEVER_BY_A_CALL:
            continue
        for reason, keys in _refusals(ast.parse(file.read_text("utf-8")).body, {}):
            found[reason] |= keys
    return found


def _refusals(body: list[ast.stmt], names: Names) -> Generator[tuple[str, Keys], None, Names]:
    """Go through statements in their order, with what they name by then; return what they name."""
    names = dict(names)
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                names[name] = _keys(value, names)
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=name), slice=key)]):
                names[name] = names.get(name, frozenset()) | frozenset(_told(key))
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                names[name] = names.get(name, frozenset()) | _keys(value, names)
        for part in ast.iter_child_nodes(statement):
            if not isinstance(part, ast.stmt | ast.match_case | ast.ExceptHandler):
                yield from _refusals_in(part, names)
        for block in _blocks(statement):
            named = yield from _refusals(block, names)
            if block and not isinstance(block[-1], ast.Return | ast.Raise):
                names |= named
    return names


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        yield getattr(statement, name, [])
    for inner in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
        yield inner.body


def _refusals_in(part: ast.AST, names: Names) -> Iterator[tuple[str, Keys]]:
    for call in ast.walk(part):
        if not isinstance(call, ast.Call) or not call.args:
            continue
        match call.args[0]:
            case ast.Constant(value=str(reason)) if reason in STATUS_CODES:
                pass
            case ast.Attribute(value=ast.Name(id="Reason"), attr=reason):
                pass
            case _:
                continue
        if reason in STATUS_CODES:
            for argument in call.args[1:]:
                yield reason, _keys(argument, names)


def _keys(expression: ast.expr, names: Names) -> Keys:
    """Return the keys of what is, or is put together from, dictionaries; none of anything else."""
    match expression:
        case ast.Dict(keys=keys):
            return frozenset(told for key in keys for told in _told(key))
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _keys(left, names) | _keys(right, names)
        case ast.Name(id=name):
            return names.get(name, frozenset())
    return frozenset()


def _told(key: ast.expr | None) -> tuple[str, ...]:
    match key:
        case ast.Constant(value=str(text)):
            return (text,)
        case ast.Name(id=name):
            return _NAMED_KEYS.get(name, ())
    return ()


def _advice() -> dict[str, str]:
    """Return what the order service's guide says to do on each reason."""
    rows = re.findall(r"^\| ([A-Z_, ]+) \| .* \| (.*) \|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    return {reason: what for names, what in rows for reason in names.split(", ")}


def _repeat(reason: str) -> str:
    (told,) = [
        told
        for group, told in _REPEATS.items()
        if issubclass(client.WalletPaymentError.reasons[reason], group)
    ]
    return told


_TEXT: Final = """\
# Every error

Written by `tests/errors_reference.py` from the code; a test fails where this page says something
else. How to get at them from Python: `wallet_payment.client.errors`, one exception for each.

* Every refusal carries a `google.rpc.ErrorInfo` with the domain `wallet_payment.v1`, the reason and
  the metadata that its place in the code knows: a key may be missing where there is nothing to
  tell.
* Decide on the reason. Messages are for people and may change.
* A refusal changes nothing and is not remembered.
* *Repeat* means the same request with the same idempotency key. RATE_LIMITED and what is ABORTED or
  UNAVAILABLE come with a `google.rpc.RetryInfo`, which says how long to wait.
* No answer at all (a connection that broke, a deadline of the caller) is no refusal: it may have
  taken effect. Repeat it with the same key.

{table}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
