"""All settings of a process, and what has to hold between them."""

import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError, field_validator
from pydantic_settings import SettingsConfigDict

from server.access.certificates import CertificateFiles
from server.access.trust import verification_keys
from server.access.watched_files import Unusable, read_files
from server.config.access import AccessSettings
from server.config.exposure import ExposureSettings
from server.config.gateways import GATEWAY_SECRETS, GatewaySettings
from server.config.outgoing import OutgoingSettings
from server.config.places import PlaceSettings
from server.config.transport import TransportSettings, is_loopback
from server.config.trust import TrustSettings
from server.config.values import read_key_set, shared_secrets
from server.config.watch import WatchSettings
from server.config.work import WorkSettings
from server.told import ToldInWords

DEVELOPMENT_KEY_ID: Final = "development"
"""The name of the keys that `up` makes for itself."""

_HEAD_OF_A_KEY: Final = "PRIVATE KEY-----"
_USER_IN_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*@")

DEVELOPMENT_PREFIX: Final = "development-"
"""Secrets made for development start so; a production server refuses them."""


class SettingsError(ToldInWords):
    """Some settings are wrong; the message names each variable, what is wrong and what to do."""


class Settings(
    WatchSettings,
    WorkSettings,
    OutgoingSettings,
    ExposureSettings,
    GatewaySettings,
    TransportSettings,
    AccessSettings,
    TrustSettings,
    PlaceSettings,
):
    """The settings of one process. The variable is the field in upper case, after `WALLET_`."""

    model_config = SettingsConfigDict(env_prefix="WALLET_", frozen=True, extra="ignore")

    @field_validator("*")
    @classmethod
    def _no_secret_where_it_would_be_shown(cls, value: object) -> object:
        """Refuse a private key or a password in a setting that `config` and logs may show."""
        if isinstance(value, str) and _HEAD_OF_A_KEY in value:
            raise ValueError("takes no private key, but the name of its file")
        if isinstance(value, str) and _USER_IN_URL.match(value):
            raise ValueError("takes a URL without user or password, https:// and a host")
        return value

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
            if not self.jwt_keys_url:
                problems.append(
                    "WALLET_JWT_KEYS is not set: give the JSON Web Key Set that tokens are "
                    "verified with, inline or as @/path/to/file, or WALLET_JWT_KEYS_URL."
                )
        else:
            problems += self._unusable_keys()
        problems += self._unusable_certificate()
        if self.audit == "off" and not self.development:
            problems.append("WALLET_AUDIT is off: calls have to be audited; continue or refuse.")
        if not self.development:
            problems += [
                f"{variable} holds a development secret: set a real one, or "
                "WALLET_DEVELOPMENT=true if this is a development machine."
                for variable in self._development_secrets()
            ]
        _refuse(problems + self._plaintext_problems("grpc_address", "metrics_address"))

    def check_forwarding(self) -> None:
        """Refuse to run a sidecar without what it needs.

        Raises:
            SettingsError: it names the variables.
        """
        problems = []
        if not self.sidecar_token.get_secret_value():
            problems.append(
                "WALLET_SIDECAR_TOKEN is not set: make one with `wallet-payment token --subject "
                "sidecar --scope webhook.forward`."
            )
        used = ("sidecar_address", "sidecar_metrics_address", "server_target")
        _refuse(problems + self._plaintext_problems(*used))

    def check_development(self) -> None:
        """Refuse to run everything on this machine in another way than on loopback.

        Raises:
            SettingsError: it names the variables.
        """
        problems = [
            f"WALLET_{name.upper()}: is for `serve` and `sidecar`; `up` has no TLS, on loopback."
            for name in ("grpc_certificate", "sidecar_certificate", "server_roots")
            if getattr(self, name)
        ]
        open_to_others = self._plaintext_problems(
            "grpc_address", "metrics_address", "sidecar_address"
        )
        _refuse(problems or open_to_others)

    def _plaintext_problems(self, *fields: str) -> list[str]:
        """Name the addresses beyond loopback that nothing protects, and nothing says they may."""
        problems = []
        for field in fields:
            address, protection = getattr(self, field), _PROTECTIONS[field]
            is_protected = bool(protection.by and getattr(self, protection.by))
            is_allowed = getattr(self, protection.plaintext) == "allowed"
            if address and not (is_loopback(address) or is_protected or is_allowed):
                remedy = f"WALLET_{protection.by.upper()}, or " if protection.by else ""
                problems.append(
                    f"WALLET_{field.upper()}={address} would be plaintext beyond loopback: set "
                    f"{remedy}WALLET_{protection.plaintext.upper()}=allowed if something else "
                    "protects what passes there."
                )
        return problems

    def _unusable_keys(self) -> list[str]:
        try:
            verification_keys(read_key_set(self.jwt_keys), self.jwt_algorithms)
        except Unusable as error:
            return [f"WALLET_JWT_KEYS: {error}."]
        return []

    def _unusable_certificate(self) -> list[str]:
        if not self.grpc_certificate:
            return []
        files = CertificateFiles.named(self.grpc_certificate, self.grpc_key, self.grpc_client_roots)
        try:
            files.parse(read_files(files.paths))
        except Unusable as error:
            return [f"WALLET_GRPC_CERTIFICATE: {error}."]
        return []

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


@dataclass(frozen=True, slots=True)
class _Protection:
    """What protects an address, or says that it needs no protection: fields of the settings."""

    by: str
    plaintext: str


_PROTECTIONS: Final = {
    "grpc_address": _Protection("grpc_certificate", "grpc_plaintext"),
    "metrics_address": _Protection("", "metrics_plaintext"),
    "sidecar_address": _Protection("sidecar_certificate", "sidecar_plaintext"),
    "sidecar_metrics_address": _Protection("", "metrics_plaintext"),
    "server_target": _Protection("server_roots", "grpc_plaintext"),
}


def _refuse(problems: list[str]) -> None:
    if problems:
        raise SettingsError("\n".join(problems))


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
