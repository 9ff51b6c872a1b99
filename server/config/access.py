"""Settings of who may call, as they change while the server runs: keys, and revoked tokens."""

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from server.config.values import PresentFile, is_secure_url


class AccessSettings(BaseSettings):
    """What tokens are checked against beside WALLET_JWT_KEYS, and how often files are read."""

    jwt_keys_url: str = Field(
        default="",
        description="Where a key server publishes its JSON Web Key Set: https, or http on this "
        "machine. Its keys come beside those of WALLET_JWT_KEYS.",
    )
    jwt_keys_refresh_seconds: float = Field(
        default=300.0, ge=1, le=86_400, description="How often the key server is asked."
    )
    jwt_revoked: PresentFile = Field(
        default="",
        description="File of revoked tokens, the `jti` of one on each line. Empty: none is.",
    )
    reload_seconds: float = Field(
        default=1.0,
        ge=0.05,
        le=3_600,
        description="How often files of keys, revoked tokens and certificates are looked at.",
    )

    @field_validator("jwt_keys_url")
    @classmethod
    def _secure_url(cls, value: str) -> str:
        if value and not is_secure_url(value):
            raise ValueError("takes a URL with https://, or with http:// on this machine")
        return value
