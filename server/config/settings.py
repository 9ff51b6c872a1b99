"""All settings of a process, and what has to hold between them."""

from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from server.config.gateways import GATEWAY_SECRETS, GatewaySettings
from server.config.places import PlaceSettings
from server.config.trust import TrustSettings
from server.config.values import read_key_set, shared_secrets
from server.config.work import WorkSettings

DEVELOPMENT_KEY_ID: Final = "development"
"""The name of the keys that `up` makes for itself."""

DEVELOPMENT_PREFIX: Final = "development-"
"""Secrets made for development start so; a production server refuses them."""


class SettingsError(Exception):
    """Some settings are wrong; the message names each variable, what is wrong and what to do."""


class Settings(WorkSettings, GatewaySettings, TrustSettings, PlaceSettings):
    """The settings of one process. The variable is the field in upper case, after `WALLET_`."""

    model_config = SettingsConfigDict(env_prefix="WALLET_", frozen=True, extra="ignore")

    def check_serving(self) -> None:
        """Refuse to serve without what serving needs, or with what only development may have.

        Raises:
            SettingsError: it names the variables.
        """
        problems = []
        if not self.mongodb_uri.get_secret_value():
            problems.append(
                "WALLET_MONGODB_URI is not set: name a MongoDB replica set, or use "
                "`wallet-payment up` for an embedded one."
            )
        if not self.jwt_keys.get_secret_value():
            problems.append(
                "WALLET_JWT_KEYS is not set: give the JSON Web Key Set that tokens are verified "
                "with, inline or as @/path/to/file."
            )
        elif not {key["alg"] for key in read_key_set(self.jwt_keys)} & set(self.jwt_algorithms):
            problems.append(
                "WALLET_JWT_KEYS has no key for an algorithm of WALLET_JWT_ALGORITHMS: no token "
                "would ever be accepted."
            )
        if not self.development:
            problems += [
                f"{variable} holds a development secret: set a real one, or "
                "WALLET_DEVELOPMENT=true if this is a development machine."
                for variable in self._development_secrets()
            ]
        if problems:
            raise SettingsError("\n".join(problems))

    def _development_secrets(self) -> list[str]:
        found = []
        if any(secret.startswith(DEVELOPMENT_PREFIX) for secret in shared_secrets(self.jwt_keys)):
            found.append("WALLET_JWT_KEYS")
        if any(key.key_id == DEVELOPMENT_KEY_ID for key in self.encryption()):
            found.append("WALLET_ENCRYPTION_KEYS")
        found += [
            f"WALLET_{name.upper()}"
            for name in GATEWAY_SECRETS
            if any(secret.startswith(DEVELOPMENT_PREFIX) for secret in _secrets_in(self, name))
        ]
        return found


def _secrets_in(settings: Settings, name: str) -> list[str]:
    value = getattr(settings, name)
    secrets = value if isinstance(value, tuple) else (value,)
    return [secret.get_secret_value() for secret in secrets]


def load_settings(**given: Any) -> Settings:  # noqa: ANN401 - any field of Settings
    """Read the settings from the environment; `given` ones come before it.

    Raises:
        SettingsError: each wrong variable is named, with what is wrong; values are not shown.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_input=False, include_url=False):
            variable = "_".join(str(part) for part in problem["loc"][:1]).upper()
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"WALLET_{variable}: {message}" if variable else message)
        raise SettingsError("\n".join(problems)) from None
