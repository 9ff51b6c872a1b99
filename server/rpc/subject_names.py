"""Whose certificate a token may come with: a stolen token is of no use to another caller."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from server.rpc.auth import Caller
from server.rpc.errors import RpcError

_ANY_SUBJECT = "*"
_ALTERNATIVE_NAMES = ("peer_uri", "peer_dns")
_COMMON_NAME = "x509_common_name"

Connection = Mapping[str, Iterable[bytes]]
"""What gRPC tells of a connection's other end: names and values of its certificate."""


@dataclass(frozen=True, slots=True)
class SubjectNames:
    """The names of certificates that the tokens of each `sub` may come with."""

    names: Mapping[str, frozenset[str]]
    is_own_name_enough: bool
    """Whether a `sub` may come with a certificate of the same name."""

    @classmethod
    def of(cls, setting: Iterable[str]) -> Self:
        """Read `sub=name` and `*`."""
        names: dict[str, frozenset[str]] = {}
        parts = list(setting)
        for part in parts:
            subject, _, name = part.partition("=")
            if name:
                names[subject] = names.get(subject, frozenset()) | {name}
        return cls(names, _ANY_SUBJECT in parts)

    def check(self, caller: Caller, connection: Connection) -> None:
        """Refuse a token that comes over another caller's connection.

        Raises:
            RpcError: CERTIFICATE_MISMATCH.
        """
        allowed = self.names.get(caller.name, frozenset())
        if self.is_own_name_enough:
            allowed |= {caller.name}
        if not allowed & _names_of(connection):
            raise RpcError(
                "CERTIFICATE_MISMATCH",
                f"The token of {caller.name} may not come over a connection with this certificate.",
                {"caller": caller.name},
            )


def _names_of(connection: Connection) -> frozenset[str]:
    """Return the names of a certificate: its common name only where it has no other (RFC 6125)."""
    names = [name for kind in _ALTERNATIVE_NAMES for name in connection.get(kind, ())]
    found = names or connection.get(_COMMON_NAME, ())
    return frozenset(name.decode("utf-8", "replace") for name in found)
