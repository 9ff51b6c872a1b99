"""Values that are encrypted at rest: the caller's notes, and what gateways sent.

Each value is an envelope of its own: a format, the id of its key, a random nonce, and AES-256-GCM's
ciphertext. The record and the field are associated data, so that a value opens nowhere else. An
envelope has a binary subtype of its own, by which it is told from a plain value.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from bson import Binary
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from server.encryption_keys import EncryptionKey
from server.store import schema
from server.store.connection import Document
from server.told import ToldInWords

ENVELOPE: Final = 128
"""The binary subtype of an envelope, of those that are free to users."""

_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12
_MAPS: Final[Mapping[str, str]] = {schema.TRANSACTIONS: "metadata", schema.TOPUPS: "metadata"}
"""Collection -> the field whose values are encrypted, each by itself."""
_VALUES: Final[Mapping[str, str]] = {schema.EVENTS: "body", schema.DEAD_LETTERS: "body"}
"""Collection -> the field that is encrypted."""
ENCRYPTED: Final[Mapping[str, str]] = {**_MAPS, **_VALUES}
"""Collection -> the field in which something is encrypted."""


class EncryptionError(ToldInWords):
    """A stored value cannot be opened; the message names the record and the key, and no value."""


class Encryption:
    """Seals documents on their way to the database and opens them on their way back."""

    def __init__(self, keys: Sequence[EncryptionKey] = ()) -> None:
        """Without keys nothing is encrypted; the first one is the current."""
        self._ciphers = {key.key_id: AESGCM(key.secret) for key in keys}
        self.current_id = keys[0].key_id if keys else ""

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of all keys, the current one first."""
        return tuple(self._ciphers)

    def sealed(self, collection: str, document: Document) -> Document:
        """Return a document with what has to be encrypted."""
        if not self.current_id:
            return document
        return self._mapped(collection, document, self._seal)

    def opened(self, collection: str, documents: Iterable[Document]) -> list[Document]:
        """Return documents with what was encrypted in the clear; plain values stay as they are.

        Raises:
            EncryptionError.
        """
        return [self._mapped(collection, document, self._open) for document in documents]

    def is_current(self, collection: str, document: Document) -> bool:
        """Tell whether all that is to be encrypted is, with the current key."""
        found: list[bool] = []

        def look(value: Any, place: bytes) -> Any:  # noqa: ANN401 - a stored value
            found.append(_is_envelope(value) and _key_id(value, place) == self.current_id)
            return value

        self._mapped(collection, document, look)
        return all(found)

    def check_value(self, key_id: str) -> Binary:
        """Return a known text under a key, by which a wrong key of this id is found."""
        return self._envelope(key_id, _CHECK, _check_place(key_id))

    def check(self, key_id: str, value: Any) -> None:  # noqa: ANN401 - a stored value
        """Check a key by the known text.

        Raises:
            EncryptionError: it is missing, or another one than that which the values are under.
        """
        try:
            is_right = _is_envelope(value) and self._open(value, _check_place(key_id)) == _CHECK[1:]
        except EncryptionError:
            is_right = False
        if not is_right:
            raise EncryptionError(
                f"Encryption key {key_id!r} is not the one of this id that stored values were "
                "encrypted with: give that one back, and a new key an id of its own. For "
                "development, the data folder may be removed instead."
            )

    def _mapped(
        self, collection: str, document: Document, change: Callable[[Any, bytes], Any]
    ) -> Document:
        name = ENCRYPTED.get(collection)
        if name is None or name not in document:
            return document
        place = f"{collection}\0{document['_id']}\0{name}"
        if collection in _VALUES:
            return document | {name: change(document[name], place.encode())}
        values = {
            key: change(value, f"{place}.{key}".encode()) for key, value in document[name].items()
        }
        return document | {name: values}

    def _seal(self, value: Any, place: bytes) -> Any:  # noqa: ANN401 - a text or bytes
        """Encrypt a text or bytes; the first byte of the clear text says which.

        Raises:
            EncryptionError: it is something else, which nothing here has written.
        """
        if isinstance(value, str):
            return self._envelope(self.current_id, b"t" + value.encode(), place)
        if isinstance(value, bytes):
            return self._envelope(self.current_id, b"b" + value, place)
        raise EncryptionError(
            f"{_where(place)} is no text: it was written by hand, and is left as it is."
        )

    def _envelope(self, key_id: str, clear: bytes, place: bytes) -> Binary:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        name = key_id.encode()
        head = _FORMAT + bytes([len(name)]) + name
        ciphertext = self._ciphers[key_id].encrypt(nonce, clear, head + place)
        return Binary(head + nonce + ciphertext, ENVELOPE)

    def _open(self, value: Any, place: bytes) -> Any:  # noqa: ANN401 - a stored value
        if not _is_envelope(value):
            return value
        key_id = _key_id(value, place)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise EncryptionError(
                f"{_where(place)} is encrypted with key {key_id!r}, which is not among "
                "WALLET_ENCRYPTION_KEYS: add it after the current one."
            )
        start = 2 + value[1]
        head, nonce = value[:start], value[start : start + _NONCE_BYTES]
        try:
            clear = cipher.decrypt(nonce, value[start + _NONCE_BYTES :], head + place)
        except (InvalidTag, ValueError):
            raise EncryptionError(
                f"{_where(place)} does not open with key {key_id!r}: it was written with another "
                "one, or it was altered."
            ) from None
        return clear[1:].decode() if clear.startswith(b"t") else clear[1:]


NO_ENCRYPTION: Final = Encryption()

_CHECK: Final = b"bwallet-payment"


def _check_place(key_id: str) -> bytes:
    return f"encryption key\0{key_id}".encode()


def _is_envelope(value: Any) -> bool:  # noqa: ANN401 - a stored value
    return isinstance(value, Binary) and value.subtype == ENVELOPE


def _where(place: bytes) -> str:
    """Return the collection, the record and its field; what a caller named in it is left out."""
    record, _, name = place.decode().rpartition("\0")
    return f"{record} {name.partition('.')[0]}".replace("\0", " ")


def _key_id(value: bytes, place: bytes) -> str:
    """Return whose key an envelope is under.

    Raises:
        EncryptionError: it is of a format that this release does not know.
    """
    if len(value) < 2 or value[:1] != _FORMAT:  # noqa: PLR2004 - format and length
        raise EncryptionError(f"{_where(place)} is encrypted in a format of a later release.")
    return value[2 : 2 + value[1]].decode("ascii", "replace")
