"""Encrypts what is stored with the current key, while servers go on; minds which keys are used.

It goes through each collection by its ids and notes how far it is, so that it can be gone on with.
A value that a server writes meanwhile is left as that server wrote it: it passes until it finds
nothing left to do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bson import Int64

from server.store import schema
from server.store.connection import Database, Document, find, store_errors, write
from server.store.encryption import ENCRYPTED, Encryption, EncryptionError

_BATCH: Final = 500
_CHECKS: Final = "encryption_key:"
_CHECKS_END: Final = "encryption_key;"
_ROTATION: Final = "encryption_rotation"
_MOST_TOLD: Final = 100
"""Values that do not open and are told of one by one."""


@dataclass(frozen=True, slots=True)
class RotationProgress:
    """How far a pass is."""

    collection: str
    read: int
    """Records of this collection that were gone through, since it was begun or gone on with."""
    changed: int


@dataclass(frozen=True, slots=True)
class Rotated:
    """What came of encrypting everything with the current key."""

    changed: int
    """Records that were encrypted with it."""
    unopened: int
    """Records that no key opens, or that nothing here has written: they are left as they are."""
    problems: tuple[str, ...]
    """Which records those are, the first of them, and why."""
    unused_keys: tuple[str, ...]
    """Keys under which nothing is stored any more; none is said to be while a value is unopened."""


async def check_keys(database: Database, encryption: Encryption) -> None:
    """Refuse keys with which stored values would not open; note the current one as used.

    Raises:
        EncryptionError: a key is missing, or is another one than that of its id.
        StoreUnavailable.
    """
    if encryption.current_id:
        name = _CHECKS + encryption.current_id
        with store_errors():
            await database[schema.SETTINGS].update_one(
                {"_id": name},
                {"$setOnInsert": {"check": encryption.check_value(encryption.current_id)}},
                upsert=True,
            )
    for key_id, value in (await _checks(database)).items():
        if key_id not in encryption.key_ids:
            raise EncryptionError(
                f"Stored values are encrypted with key {key_id!r}, which is not among "
                "WALLET_ENCRYPTION_KEYS: add it after the current one, or run "
                "`wallet-payment encryption rotate` where it still is."
            )
        encryption.check(key_id, value)


async def rotate(
    database: Database,
    encryption: Encryption,
    went_on: Callable[[RotationProgress], None] = lambda _: None,
) -> Rotated:
    """Encrypt everything with the current key, but for what does not open.

    Raises:
        EncryptionError: there is no key to encrypt with, or one that values are under is missing.
        StoreUnavailable.
    """
    if not encryption.current_id:
        raise EncryptionError("There is no key to encrypt with: set WALLET_ENCRYPTION_KEYS.")
    await check_keys(database, encryption)
    changed_in_all, is_whole = 0, False
    while True:
        place = await _place(database, encryption.current_id)
        is_whole = place["collection"] == "" and place["last_id"] == ""
        changed, problems = await _pass(database, encryption, place, went_on)
        changed_in_all += changed
        await _note(database, encryption.current_id, "", "")
        if is_whole and changed == 0:
            freed = [] if problems else await _set_free(database, encryption.current_id)
            told = tuple(problems[:_MOST_TOLD])
            return Rotated(changed_in_all, len(problems), told, tuple(freed))


async def _pass(
    database: Database,
    encryption: Encryption,
    place: Document,
    went_on: Callable[[RotationProgress], None],
) -> tuple[int, list[str]]:
    """Go through all collections from a place on; return how many records it found to change.

    With it comes what does not open, and why.
    """
    names = sorted(ENCRYPTED)
    changed_in_all = 0
    problems: list[str] = []
    for collection in names:
        if collection < place["collection"]:
            continue
        last_id = place["last_id"] if collection == place["collection"] else ""
        read = changed = 0
        while True:
            found = await find(
                database,
                collection,
                {"_id": {"$gt": last_id}},
                sort={"_id": 1},
                limit=_BATCH,
                projection={ENCRYPTED[collection]: 1},
            )
            changed += await _encrypt(database, collection, encryption, found, problems)
            read += len(found)
            if not found:
                break
            last_id = found[-1]["_id"]
            await _note(database, encryption.current_id, collection, last_id)
            went_on(RotationProgress(collection, read, changed))
        changed_in_all += changed
    return changed_in_all, problems


async def _encrypt(
    database: Database,
    collection: str,
    encryption: Encryption,
    found: list[Document],
    problems: list[str],
) -> int:
    """Encrypt what is not under the current key, where nobody wrote it meanwhile.

    What does not open is added to `problems`.
    """
    name = ENCRYPTED[collection]
    updates = []
    for document in found:
        try:
            if encryption.is_current(collection, document):
                continue
            [clear] = encryption.opened(collection, [document])
            changed = encryption.sealed(collection, clear)
        except EncryptionError as error:
            problems.append(str(error))
            continue
        guard = {"_id": document["_id"], name: document[name]}
        updates.append({"q": guard, "u": {"$set": {name: changed[name]}}})
    if updates:
        await write(database, collection, "update", updates)
    return len(updates)


async def _checks(database: Database) -> dict[str, Any]:
    found = await find(database, schema.SETTINGS, {"_id": {"$gte": _CHECKS, "$lt": _CHECKS_END}})
    return {document["_id"].removeprefix(_CHECKS): document["check"] for document in found}


async def _place(database: Database, current_id: str) -> Document:
    """Return where a pass to this key was broken off; the beginning where none was."""
    found = await find(database, schema.SETTINGS, {"_id": _ROTATION}, limit=1)
    if found and found[0]["to"] == current_id:
        return found[0]
    return {"collection": "", "last_id": ""}


async def _note(database: Database, current_id: str, collection: str, last_id: str) -> None:
    place = {"to": current_id, "collection": collection, "last_id": last_id}
    with store_errors():
        await database[schema.SETTINGS].update_one(
            {"_id": _ROTATION}, {"$set": place, "$inc": {"steps": Int64(1)}}, upsert=True
        )


async def _set_free(database: Database, current_id: str) -> list[str]:
    """Note that no value is under any other key than the current one."""
    freed = sorted(key_id for key_id in await _checks(database) if key_id != current_id)
    with store_errors():
        for key_id in freed:
            await database[schema.SETTINGS].delete_one({"_id": _CHECKS + key_id})
    return freed
