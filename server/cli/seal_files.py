"""Files of seals: JSON Lines, the signed seal first, then each wallet's head that it covers."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, get_type_hints

from server.ledger.records import WalletKey
from server.ledger.seals import Head, Seal, SignedSeal, head_line
from server.told import ToldInWords

_BATCH: Final = 1_000
_FIELDS: Final = get_type_hints(Seal)


class BadSealFile(ToldInWords):
    """The file holds no seal that can be read; the message names it."""


def first_line(signed: SignedSeal) -> bytes:
    """Return a seal as the first line of its file."""
    content = {"seal": asdict(signed.seal), "signature": signed.signature}
    return json.dumps(content).encode() + b"\n"


def read_seal_file(file: Path) -> SignedSeal:
    """Read the seal of a file, without its heads.

    Raises:
        BadSealFile.
    """
    try:
        with file.open("rb") as opened:
            content: dict[str, Any] = json.loads(opened.readline())
        fields, signature = content["seal"], content["signature"]
        if not isinstance(signature, str) or any(
            type(fields[name]) is not kind for name, kind in _FIELDS.items()
        ):
            raise BadSealFile(f"{file} is not a seal of the books.")
        return SignedSeal(Seal(**fields), signature)
    except OSError:
        raise BadSealFile(f"{file} cannot be read.") from None
    except (ValueError, KeyError, TypeError):
        raise BadSealFile(f"{file} is not a seal of the books.") from None


async def heads_of_file(file: Path) -> AsyncIterator[list[Head]]:
    """Go through the heads of a seal's file.

    Raises:
        BadSealFile.
    """
    with file.open("rb") as opened:
        opened.readline()
        for batch in read_heads(str(file), opened):
            yield batch


def read_heads(source: str, lines: Iterable[bytes]) -> Iterator[list[Head]]:
    """Read heads from the lines of `source`, some at a time.

    Raises:
        BadSealFile.
    """
    batch: list[Head] = []
    for number, line in enumerate(lines, 2):
        try:
            customer_id, currency_code, *rest = json.loads(line)
            head = Head(WalletKey(customer_id, currency_code), *rest)
            is_canonical = head_line(head) == line
        except (ValueError, TypeError):
            is_canonical = False
        if not is_canonical:
            raise BadSealFile(f"Line {number} of {source} is not the head of a wallet.")
        batch.append(head)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
