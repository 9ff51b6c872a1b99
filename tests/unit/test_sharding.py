"""The page on scale tells each unique index, and which no sharded cluster could keep."""

import re
from typing import Final

from pymongo import IndexModel

from running_up import ROOT
from server.store import schema

PAGE: Final = (ROOT / "docs/operation/scale.md").read_text()


def shard_keys() -> dict[str, str]:
    """Return the first field of each shard key of the page; empty for what is not sharded."""
    rows = re.findall(r"^\| `(\w+)` \| (?:`\{(\w+): [^`]*`|(not sharded))", PAGE, re.MULTILINE)
    return {collection: field for collection, field, _ in rows}


def unique_indexes() -> set[tuple[str, str]]:
    """Return every unique index but those of `_id`, by collection and name."""
    return {
        (collection, str(index.document["name"]))
        for collection, indexes in schema.indexes().items()
        for index in indexes
        if index.document.get("unique")
    }


def first_field(index: IndexModel) -> str:
    """Return the field that an index begins with."""
    return str(next(iter(index.document["key"])))


def test_every_collection_has_a_shard_key_or_none() -> None:
    """A new collection has to be thought of."""
    assert schema.collections() <= shard_keys().keys()


def test_every_unique_index_that_no_shard_could_keep_is_told() -> None:
    """A unique index whose first field is not the shard key stands in the page as one to change."""
    keys = shard_keys()
    fits: set[tuple[str, str]] = set()
    does_not: set[tuple[str, str]] = set()
    for collection, indexes in schema.indexes().items():
        for index in indexes:
            if index.document.get("unique"):
                begins = keys[collection] in {"", first_field(index)}
                (fits if begins else does_not).add((collection, str(index.document["name"])))

    told = re.findall(r"^\| `(\w+)\.(\w+)` \| (fits|to change)", PAGE, re.MULTILINE)
    assert {(collection, name) for collection, name, _ in told} == unique_indexes()
    assert {(one[0], one[1]) for one in told if one[2] == "fits"} == fits
    assert {(one[0], one[1]) for one in told if one[2] == "to change"} == does_not
    assert does_not
