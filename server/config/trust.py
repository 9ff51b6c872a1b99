"""Settings of whose word is taken: callers' tokens, and the seal over the books."""

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from server import seal_keys
from server.config.values import ALGORITHMS, CommaSeparated, content_of, read_key_set
from server.encryption_keys import (
    EncryptionKey,
    provided_encryption_keys,
    read_encryption_keys,
)


class TrustSettings(BaseSettings):
    """The keys that tokens and seals are made and verified with."""

    jwt_issuer: str = Field(default="wallet-payment", description="`iss` that tokens must carry.")
    jwt_audience: str = Field(default="wallet-payment", description="`aud` that tokens must carry.")
    jwt_algorithms: CommaSeparated = Field(
        default=("ES256", "EdDSA", "RS256"),
        description="Algorithms that tokens may be signed with, comma-separated: ES256, EdDSA, "
        "RS256, HS256.",
    )
    jwt_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Keys that tokens are verified with: a JSON Web Key Set, inline or as "
        "@/path/to/file. Each key has `kid` and `alg`.",
    )
    encryption_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Keys that metadata and gateways' events are encrypted with at rest, id:base64 "
        "each, comma-separated, current first, inline or as @/path/to/file. Empty: not encrypted.",
    )
    encryption_key_provider: str = Field(
        default="",
        description="A function that returns those keys in the same form, package.module:name, "
        "instead of WALLET_ENCRYPTION_KEYS.",
    )
    seal_key: SecretStr = Field(
        default=SecretStr(""),
        description="Ed25519 private key in PEM that `books seal` signs with, inline or as "
        "@/path/to/file. Only the sealing process needs it.",
    )
    seal_public_key: str = Field(
        default="",
        description="Public key that `books verify --sealed` trusts: base64 or PEM, inline or as "
        "@/path/to/file. Empty: that of WALLET_SEAL_KEY.",
    )

    @field_validator("jwt_algorithms")
    @classmethod
    def _known_algorithms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = set(value) - ALGORITHMS
        if unknown or not value:
            raise ValueError(f"takes {', '.join(sorted(ALGORITHMS))}, comma-separated")
        return value

    @field_validator("jwt_keys")
    @classmethod
    def _readable_keys(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            read_key_set(value)
        return value

    @field_validator("encryption_keys")
    @classmethod
    def _readable_encryption_keys(cls, value: SecretStr) -> SecretStr:
        read_encryption_keys(content_of(value.get_secret_value()))
        return value

    @field_validator("encryption_key_provider")
    @classmethod
    def _known_provider(cls, value: str) -> str:
        if value:
            provided_encryption_keys(value)
        return value

    def encryption(self) -> tuple[EncryptionKey, ...]:
        """Return the keys that values are encrypted with at rest, the current one first."""
        if self.encryption_key_provider:
            return provided_encryption_keys(self.encryption_key_provider)
        return read_encryption_keys(content_of(self.encryption_keys.get_secret_value()))

    @field_validator("seal_key")
    @classmethod
    def _readable_seal_key(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            seal_keys.read_private_key(content_of(value.get_secret_value()))
        return value

    @field_validator("seal_public_key")
    @classmethod
    def _readable_public_key(cls, value: str) -> str:
        if value:
            seal_keys.read_public_key(content_of(value))
        return value
