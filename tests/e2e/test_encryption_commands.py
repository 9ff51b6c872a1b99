"""`wallet-payment encryption`: a key is made, everything is encrypted, a missing key is told."""

import json
import re

from bson import Binary

import command_line
from harness import Harness, event_of, payment_of, running_harness, unique, with_database


async def run(harness: Harness, *arguments: str, keys: str = "", status: int = 0) -> str:
    """Run `wallet-payment` on the database of the harness; return all that it says."""
    environment = {
        "WALLET_MONGODB_URI": harness.settings.mongodb_uri.get_secret_value(),
        "WALLET_ENCRYPTION_KEYS": keys,
    }
    return "".join(await command_line.run(*arguments, environment=environment, status=status))


async def test_what_is_plain_is_encrypted_and_opens_with_its_key_alone(
    mongodb_uri: str,
) -> None:
    """Without a key `rotate` refuses; after it, `review` reads with the key and says so without."""
    uri = with_database(mongodb_uri, unique("encryption_commands"))
    async with running_harness(uri) as plain:
        topup = await plain.initiate(await plain.customer(), 500, metadata={"note": "plain"})
        await plain.deliver(event_of("payment.captured", payment_of(topup, amount=400)))
        [key] = (await run(plain, "encryption", "key", "--id", "first")).splitlines()
        assert key.startswith("first:")
        told = json.loads(await run(plain, "encryption", "key", "--json"))["key"]
        assert told != (await run(plain, "encryption", "key")).strip()
        assert re.fullmatch(r"\d{4}-\d\d-\d\d-[0-9a-f]{4}:[A-Za-z0-9+/]{43}=", told)

        assert "There is no key" in await run(plain, "encryption", "rotate", status=2)
        rotated = await run(plain, "encryption", "rotate", keys=key)
        assert "encrypted 2 records with the current key" in rotated
        assert key not in rotated
        again = await run(plain, "encryption", "rotate", "--json", keys=key)
        assert json.loads(again[: again.index("}") + 1]) == {
            "encrypted": 0,
            "unopened": 0,
            "problems": [],
            "unused_keys": [],
        }

        [event] = await plain.database.gateway_events.find().to_list(None)
        shown = await run(plain, "review", "show", event["_id"], keys=key)
        assert '"payment.captured"' in shown
        missing = await run(plain, "review", "list", status=2)
        assert "key 'first', which is not among WALLET_ENCRYPTION_KEYS" in missing
        assert "the books agree" in await run(plain, "books", "verify")


async def test_what_does_not_open_is_named_and_everything_else_encrypted(mongodb_uri: str) -> None:
    """One altered value: `rotate` goes on, names it, ends with 1 and tells to keep the old key."""
    uri = with_database(mongodb_uri, unique("altered"))
    async with running_harness(uri) as plain:
        topup = await plain.initiate(await plain.customer(), 500, metadata={"note": "plain"})
        await plain.deliver(event_of("payment.captured", payment_of(topup, amount=400)))
        old, new = [
            (await run(plain, "encryption", "key", "--id", name)).strip() for name in ("old", "new")
        ]
        await run(plain, "encryption", "rotate", keys=old)
        [event] = await plain.database.gateway_events.find().to_list(None)
        body = event["body"]
        altered = Binary(body[:-1] + bytes([body[-1] ^ 1]), body.subtype)
        await plain.database.gateway_events.update_one({}, {"$set": {"body": altered}})

        told = await run(plain, "encryption", "rotate", keys=f"{new},{old}", status=1)

        assert "encrypted 1 records with the current key" in told
        assert f"gateway_events {event['_id']} body does not open with key 'old'" in told
        assert "left as they are, since they do not open: 1. Keep all keys" in told
        assert "may be removed" not in told
