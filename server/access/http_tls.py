"""TLS of an HTTP server, whose certificate changes without a restart."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from server.access.certificates import ExpiryObserver, read_pair
from server.access.watched_files import Contents, Unusable, WatchedFiles, read_files


class HttpTls:
    """Holds the context in force: a new certificate is shown to connections that come after it.

    The context that the server was started with hands each connection on to that one.
    """

    def __init__(self, what: str, certificate: str, key: str, observer: ExpiryObserver) -> None:
        """`certificate` and `key` are files in PEM; `what` names them in metrics and logs."""
        self._what = what
        self._files = (certificate, key)
        self._observer = observer
        self.context = _server_context()
        self._current = self.context
        # Called for each connection, also for one that names no host.
        self.context.sni_callback = self._hand_on

    def watch(self, files: WatchedFiles) -> None:
        """Show what the files hold, now and whenever they change.

        Raises:
            Unusable: they cannot be used now.
        """
        files.watch(self._what, self._files, self._parse, self._accept)
        # OpenSSL wants a certificate where a connection begins, before it is handed on.
        self._load(self.context)

    def _parse(self, contents: Contents) -> "_Made":
        chain, key = contents
        pair = read_pair(chain, key, datetime.now(UTC))
        context = _server_context()
        self._load(context)
        # OpenSSL reads the files for itself, and what it has is to be what was checked.
        if read_files(tuple(map(Path, self._files))) != contents:
            raise Unusable("the certificate and its key changed while they were read")
        return _Made(context, pair.expires)

    def _accept(self, made: "_Made") -> None:
        self._current = made.context
        self._observer.certificate_expires(self._what, made.expires)

    def _hand_on(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._current

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(*self._files)
        except OSError:  # ssl.SSLError is one
            raise Unusable("the certificate and its key cannot be loaded") from None


@dataclass(frozen=True, slots=True)
class _Made:
    context: ssl.SSLContext
    expires: datetime


def _server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
