"""Collections, their validators and indexes, made or brought up to date at start-up.

`orders` and `customers_v2` are other services': they are made where they are missing, because a
transaction needs them to exist, and otherwise left as they are.
"""

import secrets
from typing import Any, Final

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import CollectionInvalid, OperationFailure

from server.store.connection import Database, Document, find, store_errors
from server.told import ToldInWords

WALLETS: Final = "wallets"
TRANSACTIONS: Final = "wallet_transactions"
TOPUPS: Final = "topups"
EVENTS: Final = "gateway_events"
LOGS: Final = "integration_logs"
AUDIT_SEGMENTS: Final = "audit_segments"
ORDERS: Final = "orders"
CUSTOMERS: Final = "customers_v2"
SETTINGS: Final = "service_settings"
STANDINGS: Final = "customer_standings"
ACTIONS: Final = "operator_actions"
SEALS: Final = "book_seals"
SEAL_HEADS: Final = "book_seal_heads"
CHECKS: Final = "standing_checks"
DEAD_LETTERS: Final = "outgoing_dead_letters"

VERSION: Final = 1
"""The version of what stands here; a server refuses a database with a newer one."""


class NewerSchema(ToldInWords):
    """A later release has been here."""

    def __init__(self, found: int) -> None:
        super().__init__(
            f"The database has schema version {found}, this release knows {VERSION}: "
            "start the release that wrote it, or a later one."
        )


async def migrate(database: Database) -> None:
    """Make what is missing and bring validators up to date. Safe to run by many at once.

    Raises:
        NewerSchema, StoreUnavailable.
    """
    settings = await find(database, SETTINGS, {"_id": "schema"})
    if settings and settings[0]["version"] > VERSION:
        raise NewerSchema(settings[0]["version"])
    with store_errors():
        existing = {
            collection["name"]: collection.get("options", {}).get("validator")
            for collection in await (await database.list_collections()).to_list(None)
        }
        for name in (ORDERS, CUSTOMERS, SETTINGS, CHECKS):
            if name not in existing:
                await _create(database, name, {})
        for name, schema in _VALIDATORS.items():
            validator = {"$jsonSchema": schema}
            if name not in existing:
                await _create(database, name, {"validator": validator})
            elif existing[name] != validator:
                # It waits for every open transaction, also for those of a server that has died.
                await database.command("collMod", name, validator=validator)
        for name, indexes in _INDEXES.items():
            await database[name].create_indexes(indexes)
        await database[SETTINGS].update_one(
            {"_id": "schema"}, {"$max": {"version": VERSION}}, upsert=True
        )


def collections() -> set[str]:
    """Return the names of all collections that are made here."""
    return {ORDERS, CUSTOMERS, SETTINGS, *_VALIDATORS}


def indexes() -> dict[str, list[IndexModel]]:
    """Return the indexes that `migrate` makes, by collection."""
    return _INDEXES


async def page_token_key(database: Database) -> bytes:
    """Return the key that signs page tokens: made once, the same for every server.

    It protects the tokens from their holders, not from those who can read the database, who can
    read the lists themselves.
    """
    with store_errors():
        await database[SETTINGS].update_one(
            {"_id": "page_token_key"},
            {"$setOnInsert": {"key": secrets.token_bytes(32)}},
            upsert=True,
        )
    found = await find(database, SETTINGS, {"_id": "page_token_key"})
    return bytes(found[0]["key"])


async def _create(database: Database, name: str, options: dict[str, Any]) -> None:
    try:
        await database.create_collection(name, **options)
    except CollectionInvalid:
        return
    except OperationFailure as error:
        if error.code != _NAMESPACE_EXISTS:  # another server was faster
            raise


_NAMESPACE_EXISTS: Final = 48
_TEXT: Final[Document] = {"bsonType": "string"}
_LONG: Final[Document] = {"bsonType": "long"}
_NATURAL: Final[Document] = {"bsonType": "long", "minimum": 1}
_DATE: Final[Document] = {"bsonType": "date"}
_CURRENCY: Final[Document] = {"bsonType": "string", "pattern": "^[A-Z]{3}$"}


def _object(required: Document, optional: Document | None = None) -> Document:
    return {
        "bsonType": "object",
        "required": list(required),
        "properties": required | (optional or {}),
    }


_VALIDATORS: Final[dict[str, Document]] = {
    WALLETS: _object(
        {
            "customer_id": _TEXT,
            "currency": _CURRENCY,
            "balance": _LONG,
            "state": {"enum": ["ACTIVE", "FROZEN"]},
            "sequence": _NATURAL,
            "head_hash": _TEXT,
            "create_time": _DATE,
            "update_time": _DATE,
            "version": _NATURAL,
        }
    ),
    TRANSACTIONS: _object(
        {
            "customer_id": _TEXT,
            "currency": _CURRENCY,
            "type": {"enum": ["TOPUP", "PAYMENT", "REFUND", "REVERSAL", "ADJUSTMENT"]},
            "amount": _LONG,
            "balance_after": _LONG,
            "sequence": _NATURAL,
            "postings": {
                "bsonType": "array",
                "minItems": 2,
                "items": _object({"account": _TEXT, "amount": _LONG}),
            },
            "previous_hash": _TEXT,
            "hash": _TEXT,
            "create_time": _DATE,
        },
        {"idempotency_id": _TEXT, "fingerprint": _TEXT, "metadata": {"bsonType": "object"}},
    ),
    TOPUPS: _object(
        {
            "customer_id": _TEXT,
            "currency": _CURRENCY,
            "amount": _NATURAL,
            "gateway": _TEXT,
            "method": _TEXT,
            "state": {
                "enum": [
                    "CREATED",
                    "PENDING",
                    "CREDITED",
                    "FAILED",
                    "EXPIRED",
                    "REVERSED",
                    "NEEDS_REVIEW",
                ]
            },
            "create_time": _DATE,
            "update_time": _DATE,
            "expire_time": _DATE,
            "idempotency_id": _TEXT,
            "fingerprint": _TEXT,
            "version": _NATURAL,
        }
    ),
    EVENTS: _object(
        {
            "gateway": _TEXT,
            "event_id": _TEXT,
            "event_type": _TEXT,
            "origin": _TEXT,
            "body": {"bsonType": "binData"},
            "outcome": {"enum": ["APPLIED", "DUPLICATE", "IGNORED", "NEEDS_REVIEW", "RESOLVED"]},
            "receive_time": _DATE,
            "apply_time": _DATE,
        },
        {"money": {"enum": ["NONE", "CAPTURED", "TAKEN", "RETURNED"]}},
    ),
    STANDINGS: _object({"tier": _TEXT, "version": _NATURAL}),
    ACTIONS: _object(
        {
            "kind": {"enum": ["FREEZE", "UNFREEZE", "SET_TIER"]},
            "customer_id": _TEXT,
            "currency": _TEXT,
            "tier": _TEXT,
            "by": _TEXT,
            "why": _TEXT,
            "time": _DATE,
        }
    ),
    LOGS: _object(
        {"time": _DATE, "method": _TEXT, "code": _TEXT}, {"previous_hash": _TEXT, "hash": _TEXT}
    ),
    AUDIT_SEGMENTS: _object({"_id": _TEXT}),
    SEALS: _object(
        {
            "date": _TEXT,
            "previous_date": _TEXT,
            "previous_hash": _TEXT,
            "heads": _LONG,
            "heads_digest": _TEXT,
            "make_time_ms": _LONG,
            "signature": _TEXT,
        }
    ),
    SEAL_HEADS: _object({"seal_hash": _TEXT, "heads": {"bsonType": "array"}}),
    DEAD_LETTERS: _object(
        {
            "customer_id": _TEXT,
            "body": {"bsonType": "binData"},
            "problem": _TEXT,
            "fail_time": _DATE,
        }
    ),
}

_INDEXES: Final[dict[str, list[IndexModel]]] = {
    WALLETS: [IndexModel([("customer_id", ASCENDING), ("currency", ASCENDING)], unique=True)],
    TRANSACTIONS: [
        IndexModel(
            [("customer_id", ASCENDING), ("currency", ASCENDING), ("sequence", ASCENDING)],
            unique=True,
        ),
        IndexModel([("customer_id", ASCENDING), ("_id", DESCENDING)]),
        IndexModel([("idempotency_id", ASCENDING)], unique=True, sparse=True),
        # A gateway's payment is credited once, whatever else might go wrong.
        IndexModel(
            [("gateway", ASCENDING), ("gateway_payment_id", ASCENDING)],
            unique=True,
            partialFilterExpression={"type": "TOPUP"},
        ),
        IndexModel(
            [("gateway", ASCENDING), ("create_time", ASCENDING)],
            partialFilterExpression={"gateway": {"$exists": True}},
        ),
        # For the proof of the books, as are those of events by transaction and of seals.
        IndexModel([("topup_id", ASCENDING)], partialFilterExpression={"type": "REVERSAL"}),
    ],
    TOPUPS: [
        IndexModel([("idempotency_id", ASCENDING)], unique=True),
        IndexModel([("customer_id", ASCENDING), ("state", ASCENDING), ("_id", DESCENDING)]),
        IndexModel(
            [("gateway", ASCENDING), ("gateway_order_id", ASCENDING)],
            unique=True,
            partialFilterExpression={"gateway_order_id": {"$exists": True}},
        ),
        IndexModel([("poll_time", ASCENDING)], sparse=True),
        # To count what is on its way; there is no one index for both before MongoDB 6.0.
        *(
            IndexModel(
                [("state", ASCENDING), ("gateway", ASCENDING), ("create_time", ASCENDING)],
                name=f"{state.lower()}_by_age",
                partialFilterExpression={"state": state},
            )
            for state in ("CREATED", "PENDING")
        ),
        IndexModel([("passed_limits", ASCENDING), ("_id", DESCENDING)], sparse=True),
    ],
    EVENTS: [
        IndexModel([("outcome", ASCENDING), ("receive_time", ASCENDING)]),
        IndexModel([("topup_id", ASCENDING)], sparse=True),
        IndexModel([("resolution.transaction_id", ASCENDING)], sparse=True),
    ],
    ACTIONS: [IndexModel([("customer_id", ASCENDING), ("_id", DESCENDING)])],
    LOGS: [
        IndexModel([("time", ASCENDING)]),
        IndexModel([("customer_id", ASCENDING), ("time", ASCENDING)], sparse=True),
        IndexModel(
            [("order_id", ASCENDING), ("time", ASCENDING)],
            partialFilterExpression={"order_id": {"$exists": True}},
        ),
        IndexModel([("correlation_id", ASCENDING), ("time", ASCENDING)]),
    ],
    DEAD_LETTERS: [IndexModel([("fail_time", ASCENDING)])],
    # Each seal follows another one: two that were made at once do not both count.
    SEALS: [IndexModel([("previous_hash", ASCENDING)], unique=True)],
    SEAL_HEADS: [IndexModel([("seal_hash", ASCENDING), ("_id", ASCENDING)])],
}
