"""TLS of the gRPC server, whose certificate and roots change without a restart."""

import grpc

from server.access.certificates import CertificateFiles, Certificates, ExpiryObserver
from server.access.watched_files import WatchedFiles

WHAT = "grpc_certificate"


class ServerTls:
    """Holds what new connections are met with; gRPC asks for it before each handshake."""

    def __init__(self, files: CertificateFiles, observer: ExpiryObserver) -> None:
        """With roots among the files, only callers whose certificate reaches one are let in."""
        self._files = files
        self._observer = observer
        self._in_force: grpc.ServerCertificateConfiguration | None = None
        self._given: grpc.ServerCertificateConfiguration | None = None

    def watch(self, files: WatchedFiles) -> grpc.ServerCredentials:
        """Follow the files from now on; return what the server is to be started with.

        Raises:
            Unusable: they cannot be used now.
        """
        files.watch(WHAT, self._files.paths, self._files.parse, self._accept)
        self._given = self._in_force
        assert self._in_force is not None  # noqa: S101 - as accepted just now
        return grpc.dynamic_ssl_server_credentials(
            self._in_force,
            self._changed,  # type: ignore[arg-type] # None is for no change, says gRPC
            self._files.roots is not None,
        )

    def _accept(self, certificates: Certificates) -> None:
        pair = certificates.pair
        assert pair is not None  # noqa: S101 - a server with TLS has a certificate
        self._in_force = grpc.ssl_server_certificate_configuration(
            [(pair.key, pair.chain)], certificates.roots
        )
        self._observer.certificate_expires(WHAT, pair.expires)

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what is in force, if gRPC has not got it yet; called in threads of gRPC's own."""
        in_force = self._in_force
        if in_force is self._given:
            return None
        self._given = in_force
        return in_force
