"""Kinds of values that settings take, and how each is written in a variable."""

import base64
import binascii
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode
from yarl import URL

from gateway_adapters.outbound import is_this_machine

ALGORITHMS: Final = frozenset({"ES256", "EdDSA", "RS256", "HS256"})
_MIN_SHARED_SECRET: Final = 32
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_PHONE_NUMBER: Final = re.compile(r"\+?[0-9]{8,15}")
_LAST_PORT: Final = 65_535


def _split(value: Any) -> Any:  # noqa: ANN401 - whatever pydantic hands over
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _host_and_port(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not host or not colon or not port.isdecimal() or int(port) > _LAST_PORT:
        raise ValueError("takes host:port, with port 0 for any free one")
    return value


def _email(value: str) -> str:
    if value and _EMAIL.fullmatch(value) is None:
        raise ValueError("takes an email address, such as shop@example.com")
    return value


def _phone_number(value: str) -> str:
    if value and _PHONE_NUMBER.fullmatch(value) is None:
        raise ValueError("takes a phone number, such as +919000090000")
    return value


def is_secure_url(text: str) -> bool:
    """Tell whether a URL leads by https, or by http to this machine, and holds no credentials.

    It is read as whoever calls it reads it. Credentials would show wherever the URL does.
    """
    try:
        url = URL(text)
    except ValueError:
        return False
    if url.host is None or url.user is not None or url.password is not None:
        return False
    return url.scheme == "https" or (url.scheme == "http" and is_this_machine(url.host))


def present_file(value: str) -> str:
    """Take the name of a file that is there. Whatever else stands there, a key maybe, is not shown.

    Raises:
        ValueError: there is none.
    """
    try:
        is_there = not value or Path(value).is_file()
    except (OSError, ValueError):
        is_there = False
    if not is_there:
        raise ValueError("there is no file of this name")
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
SecretList = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]
HostAndPort = Annotated[str, AfterValidator(_host_and_port)]
OptionalHostAndPort = Annotated[
    str, AfterValidator(lambda value: _host_and_port(value) if value else "")
]
PresentFile = Annotated[str, AfterValidator(present_file)]
Email = Annotated[str, AfterValidator(_email)]
PhoneNumber = Annotated[str, AfterValidator(_phone_number)]


def content_of(value: str) -> str:
    """Return a setting that is given inline or in the file named after `@`.

    Raises:
        ValueError: the file cannot be read.
    """
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text("utf-8")
    except (OSError, UnicodeError):
        raise ValueError("the file after @ cannot be read") from None


def read_key_set(value: SecretStr) -> list[dict[str, Any]]:
    """Read a JSON Web Key Set (RFC 7517), inline or from the file named after `@`.

    Raises:
        ValueError: it cannot be read, or a key lacks `kid` or an `alg` that is known.
    """
    return parse_key_set(content_of(value.get_secret_value()))


def parse_key_set(text: str | bytes) -> list[dict[str, Any]]:
    """Read the JSON of a key set.

    Raises:
        ValueError: as `read_key_set`.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError(  # noqa: TRY004 - what pydantic takes for a wrong value
            'takes a JSON Web Key Set, {"keys": [...]}, or @ and its file'
        )
    for key in keys:
        if not _is_named(key):
            raise ValueError(
                f"each key needs `kid`, and `alg` from {', '.join(sorted(ALGORITHMS))}"
            )
        if key["alg"] == "HS256" and len(_decoded(key.get("k", ""))) < _MIN_SHARED_SECRET:
            raise ValueError(f"the secret of an HS256 key has {_MIN_SHARED_SECRET} bytes or more")
    return list(keys)


def _is_named(key: object) -> bool:
    if not isinstance(key, dict) or not isinstance(key.get("alg"), str):
        return False
    return isinstance(key.get("kid"), str) and key["kid"] != "" and key["alg"] in ALGORITHMS


def shared_secrets(key_set: SecretStr) -> list[str]:
    """Return the secrets of a key set's HS256 keys."""
    if not key_set.get_secret_value():
        return []
    return [_decoded(key["k"]).decode("latin-1") for key in read_key_set(key_set) if "k" in key]


def _decoded(base64url: object) -> bytes:
    if not isinstance(base64url, str):
        return b""
    try:
        return base64.urlsafe_b64decode(base64url + "=" * (-len(base64url) % 4))
    except (binascii.Error, ValueError):
        return b""
