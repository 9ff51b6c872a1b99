"""Settings of who may call, as they change while the server runs: keys, and revoked tokens."""

from typing import Final

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings
from yarl import URL

from gateway_adapters.outbound import is_this_machine
from server.config.values import PresentFile


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
        if value and not _is_secure(value):
            raise ValueError("takes a URL with https://, or with http:// on this machine")
        return value


_SCHEMES: Final = frozenset({"http", "https"})


def _is_secure(text: str) -> bool:
    try:
        url = URL(text)
    except ValueError:
        return False
    if url.host is None or url.user is not None or url.scheme not in _SCHEMES:
        return False
    return url.scheme == "https" or is_this_machine(url.host)
