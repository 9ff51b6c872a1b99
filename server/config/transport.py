"""Settings of how connections are protected: certificates, and where plaintext may be spoken."""

import ipaddress
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings

from gateway_adapters.addresses import read_network
from server.config.values import CommaSeparated, PresentFile, present_file

SYSTEM_ROOTS: Final = "system"
"""Stands for the roots that the system trusts, in place of a file."""
ANY_SUBJECT: Final = "*"
"""Stands for each `sub` with a certificate of the same name."""


def _roots(value: str) -> str:
    return value if value == SYSTEM_ROOTS else present_file(value)


Plaintext = Literal["loopback", "allowed"]


class TransportSettings(BaseSettings):
    """TLS of the server, of the sidecar, and between them."""

    grpc_certificate: PresentFile = Field(
        default="",
        description="PEM file of the certificate that gRPC shows, with its chain. Empty: no TLS.",
    )
    grpc_key: PresentFile = Field(default="", description="PEM file of its private key.")
    grpc_client_roots: PresentFile = Field(
        default="",
        description="PEM file of roots: only callers with a certificate that reaches one get a "
        "connection. Empty: callers need no certificate.",
    )
    grpc_subject_names: CommaSeparated = Field(
        default=(),
        description="Which certificate a token may come with, comma-separated: `sub=name`, where "
        "name is a URI or DNS name of the certificate or, where it has none, its common name. `*`: "
        "each `sub` with a certificate of the same name. Empty: with any.",
    )
    grpc_connection_seconds: int = Field(
        default=3_600,
        ge=1,
        le=86_400,
        description="How long a connection to gRPC stays before it is made anew, with the "
        "certificates of then; calls under way have a minute to end.",
    )
    grpc_plaintext: Plaintext = Field(
        default="loopback",
        description="`allowed`: gRPC without TLS also beyond loopback, here and from the sidecar "
        "to the server, because something else encrypts what passes there.",
    )
    metrics_plaintext: Plaintext = Field(
        default="loopback", description="`allowed`: /metrics is told beyond loopback, to anybody."
    )
    sidecar_certificate: PresentFile = Field(
        default="",
        description="PEM file of the certificate that the sidecar shows, with its chain. Empty: "
        "no TLS.",
    )
    sidecar_key: PresentFile = Field(default="", description="PEM file of its private key.")
    sidecar_plaintext: Plaintext = Field(
        default="loopback",
        description="`allowed`: webhooks without TLS also beyond loopback, because a proxy takes "
        "them by https and the way from it is safe.",
    )
    sidecar_trusted_proxies: CommaSeparated = Field(
        default=(),
        description="Networks of proxies whose word about the remote address is taken, "
        "comma-separated: 10.1.0.0/16. Empty: nobody's.",
    )
    sidecar_forwarded_header: Literal["X-Forwarded-For", "Forwarded"] = Field(
        default="X-Forwarded-For",
        description="The header that they write it in: X-Forwarded-For or Forwarded.",
    )
    server_roots: Annotated[str, AfterValidator(_roots)] = Field(
        default="",
        description="PEM file of roots that the server's certificate must reach, or `system`: the "
        "sidecar speaks TLS to WALLET_SERVER_TARGET. Empty: plaintext.",
    )
    server_name: str = Field(
        default="",
        description="The name that the server's certificate must have. Empty: the target's host.",
    )
    sidecar_client_certificate: PresentFile = Field(
        default="", description="PEM file of the certificate that the sidecar shows to the server."
    )
    sidecar_client_key: PresentFile = Field(default="", description="PEM file of its private key.")

    @field_validator("grpc_subject_names")
    @classmethod
    def _pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            subject, _, name = part.partition("=")
            if part != ANY_SUBJECT and not (subject and name):
                raise ValueError("takes sub=name, or *, comma-separated")
        return value

    @field_validator("sidecar_trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            try:
                network = read_network(part)
            except ValueError:
                raise ValueError("takes networks, such as 10.1.0.0/16, comma-separated") from None
            if not network.prefixlen:
                raise ValueError("takes networks of proxies; a network of everybody is none")
        return value

    @model_validator(mode="after")
    def _what_is_needed_is_there(self) -> Self:
        for name, needed in _NEEDS:
            if getattr(self, name) and not getattr(self, needed):
                raise ValueError(
                    f"WALLET_{needed.upper()}: is needed where WALLET_{name.upper()} is set"
                )
        return self


_NEEDS: Final = (
    ("grpc_certificate", "grpc_key"),
    ("grpc_key", "grpc_certificate"),
    ("grpc_client_roots", "grpc_certificate"),
    ("grpc_subject_names", "grpc_client_roots"),
    ("sidecar_certificate", "sidecar_key"),
    ("sidecar_key", "sidecar_certificate"),
    ("sidecar_client_certificate", "sidecar_client_key"),
    ("sidecar_client_key", "sidecar_client_certificate"),
    ("sidecar_client_certificate", "server_roots"),
    ("server_name", "server_roots"),
)
"""What is of use only together with something else."""


def is_loopback(address: str) -> bool:
    """Tell whether nobody but this machine reaches, or is reached by, host:port."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
