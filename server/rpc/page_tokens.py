"""Page tokens: where the next page starts, sealed so that only this service can make one."""

import base64
import binascii
import hashlib
import hmac
from typing import Final

from server.queries import TransactionFilter
from server.rpc.errors import InvalidArgument, Violation

_SEAL_BYTES: Final = 16
_MAX_CHARACTERS: Final = 256


class PageTokens:
    """Makes and reads tokens with one secret key, shared by all servers."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, wanted: TransactionFilter, last_id: str) -> str:
        """Return the token of the page that follows `last_id` in this list."""
        sealed = self._seal(wanted, last_id) + last_id.encode()
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def read(self, wanted: TransactionFilter, token: str) -> str:
        """Return the id that the page follows; the token must be of this very list.

        Raises:
            InvalidArgument: it was changed, or belongs to another list.
        """
        if not token:
            return ""
        try:
            padded = token[:_MAX_CHARACTERS] + "=" * (-len(token[:_MAX_CHARACTERS]) % 4)
            sealed = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)
            last_id = sealed[_SEAL_BYTES:].decode("ascii")
        except (binascii.Error, UnicodeError):
            raise _refused() from None
        if not hmac.compare_digest(token.encode(), self.make(wanted, last_id).encode()):
            raise _refused()
        return last_id

    def _seal(self, wanted: TransactionFilter, last_id: str) -> bytes:
        scope = [
            wanted.customer_id,
            wanted.currency_code,
            ",".join(sorted(wanted.types)),
            str(wanted.start_time_ms),
            str(wanted.end_time_ms),
            last_id,
        ]
        return hmac.digest(self._key, "\n".join(scope).encode(), hashlib.sha256)[:_SEAL_BYTES]


def _refused() -> InvalidArgument:
    return InvalidArgument(
        [
            Violation(
                "page_token",
                "is not a token of this list. Pass `next_page_token` as it came, with the same "
                "filters, or leave it empty to start over",
            )
        ]
    )
