"""Settings of where the process keeps, listens and tells."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from server.config.values import HostAndPort, OptionalHostAndPort


class PlaceSettings(BaseSettings):
    """The database, the addresses and the log."""

    development: bool = Field(
        default=False,
        description="Allow what only a development machine may have: development secrets.",
    )
    mongodb_uri: SecretStr = Field(
        default=SecretStr(""),
        description="MongoDB replica set, with the database (default wallet_payment). Empty: `up` "
        "starts an embedded one, `serve` refuses to start.",
    )
    data_dir: Path = Field(
        default=Path(".wallet-payment"),
        description="Folder in which `up` keeps the embedded database and its development keys.",
    )
    grpc_address: HostAndPort = Field(default="127.0.0.1:50051", description="Where gRPC listens.")
    sidecar_address: HostAndPort = Field(
        default="127.0.0.1:8080", description="Where the sidecar takes webhooks."
    )
    metrics_address: HostAndPort = Field(
        default="127.0.0.1:9464", description="Where Prometheus gets /metrics."
    )
    sidecar_metrics_address: OptionalHostAndPort = Field(
        default="", description="Where Prometheus gets the sidecar's /metrics. Empty: nowhere."
    )
    sandbox_address: HostAndPort = Field(
        default="127.0.0.1:8090", description="Where the sandbox gateway of `up` listens."
    )
    server_target: HostAndPort = Field(
        default="127.0.0.1:50051", description="The gRPC server that the sidecar forwards to."
    )
    sidecar_token: SecretStr = Field(
        default=SecretStr(""),
        description="The sidecar's own token, with the scope webhook.forward, inline or as "
        "@/path/to/file, which is read again when it changes.",
    )
    operator_token: SecretStr = Field(
        default=SecretStr(""),
        description="The token that `topup`, `pay` and `refund` call WALLET_SERVER_TARGET with. "
        "Empty: one is made for each call with a key of WALLET_JWT_KEYS.",
    )
    reflection: bool = Field(
        default=False, description="Serve gRPC reflection, for grpcurl; on in `up`."
    )
    log_level: str = Field(
        default="info",
        description="debug, info, warning or error.",
        pattern="(?i)^(debug|info|warning|error)$",
    )
    log_format: str = Field(
        default="auto",
        description="json, console, or auto: console in a terminal.",
        pattern="^(auto|json|console)$",
    )
