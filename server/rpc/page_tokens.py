"""Page tokens: where the next page starts, sealed so that only this service can make one."""

from typing import Final

from server.queries import TransactionFilter
from server.rpc.errors import InvalidArgument, Violation
from server.rpc.sealing import sealed, unsealed

_MAX_CHARACTERS: Final = 256


class PageTokens:
    """Makes and reads tokens with one secret key, shared by all servers."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, wanted: TransactionFilter, last_id: str) -> str:
        """Return the token of the page that follows `last_id` in this list."""
        return sealed(self._key, _scope(wanted), last_id)

    def read(self, wanted: TransactionFilter, token: str) -> str:
        """Return the id that the page follows; the token must be of this very list.

        Raises:
            InvalidArgument: it was changed, or belongs to another list.
        """
        if not token:
            return ""
        last_id = unsealed(self._key, _scope(wanted), token, _MAX_CHARACTERS)
        if last_id is None:
            raise InvalidArgument(
                [
                    Violation(
                        "page_token",
                        "is not a token of this list. Pass `next_page_token` as it came, with the "
                        "same filters, or leave it empty to start over",
                    )
                ]
            )
        return last_id


def _scope(wanted: TransactionFilter) -> list[str]:
    return [
        wanted.customer_id,
        wanted.currency_code,
        ",".join(sorted(wanted.types)),
        str(wanted.start_time_ms),
        str(wanted.end_time_ms),
    ]
