"""Settings of outgoing webhooks: what happens, posted to a receiver."""

from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from server.config.values import CommaSeparated, SecretList, is_secure_url
from server.feed import WalletEventType
from server.outgoing_signing import secret_key

_TYPES: Final = frozenset(WalletEventType)


def _url(value: str) -> str:
    if value and not is_secure_url(value):
        raise ValueError("takes an https URL without credentials; http only to this machine")
    return value


def _secrets(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for secret in value:
        secret_key(secret.get_secret_value())
    return value


def _types(value: tuple[str, ...]) -> tuple[str, ...]:
    if not set(value) <= _TYPES:
        raise ValueError(f"takes {', '.join(sorted(_TYPES))}, comma-separated")
    return value


class OutgoingSettings(BaseSettings):
    """Where events are posted to, and how stubbornly."""

    outgoing_webhook_url: Annotated[str, AfterValidator(_url)] = Field(
        default="", description="Where events are posted to; https beyond this machine. Empty: off."
    )
    outgoing_webhook_secrets: Annotated[SecretList, AfterValidator(_secrets)] = Field(
        default=(),
        description="What they are signed with, comma-separated, current first: whsec_ and base64 "
        "of 24 to 64 random bytes. Keep the previous one while it rotates.",
    )
    outgoing_webhook_types: Annotated[CommaSeparated, AfterValidator(_types)] = Field(
        default=(), description="Only events of these types, comma-separated. Empty: all."
    )
    outgoing_webhook_attempts: int = Field(
        default=10, ge=1, le=100, description="How often one is posted before it is a dead letter."
    )
    outgoing_webhook_retry_seconds: float = Field(
        default=1.0,
        ge=0.001,
        le=300,
        description="Wait before the second attempt; each further one doubles, five minutes at "
        "most.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        parts = {"URL": self.outgoing_webhook_url, "SECRETS": self.outgoing_webhook_secrets}
        missing = [name for name, value in parts.items() if not value]
        if len(missing) == 1:
            raise ValueError(
                f"WALLET_OUTGOING_WEBHOOK_{missing[0]}: is needed where the other of URL and "
                "SECRETS is set"
            )
        return self
