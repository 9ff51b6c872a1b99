"""Every setting: `docs/reference/settings.md` is written here from `server/config`.

.venv/bin/python tests/settings_reference.py
"""

from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from server.config.exposure import OptionalRate, RatesOfMethods
from server.config.settings import Settings
from server.config.values import (
    Email,
    HostAndPort,
    OptionalHostAndPort,
    PhoneNumber,
    PresentFile,
)

PAGE: Final = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"

GROUPS: Final[list[type[BaseSettings]]] = list(reversed(Settings.__bases__))

_KINDS: Final[list[tuple[Any, str]]] = [
    (HostAndPort, "host:port"),
    (OptionalHostAndPort, "host:port"),
    (PresentFile, "a file that is there"),
    (Email, "an email address"),
    (PhoneNumber, "a phone number"),
    (RatesOfMethods, "a list of rates"),
    (OptionalRate, "a rate"),
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number"),
    (Path, "a path"),
]
"""How kinds of values are told; whatever is not here is a choice, a list or text."""


def variables() -> list[str]:
    """Return every variable of the settings."""
    return [_variable(name) for name in Settings.model_fields]


def page() -> str:
    """Return the whole page."""
    return _TEXT.format(groups="\n".join(map(_group, GROUPS)))


def _group(settings: type[BaseSettings]) -> str:
    title = settings.__name__.removesuffix("Settings")
    kinds = get_type_hints(settings, include_extras=True)
    lines = [
        f"## {title}\n\n{settings.__doc__}\n",
        "| variable | what it is | default | takes |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| `{_variable(name)}` | {_meaning(field)} | {_default(field)} "
        f"| {_takes(kinds[name], field)} |"
        for name, field in settings.model_fields.items()
    ]
    return "\n".join(lines) + "\n"


def _variable(name: str) -> str:
    return f"WALLET_{name.upper()}"


def _meaning(field: FieldInfo) -> str:
    return (field.description or "").replace("<", r"\<")


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        value = ",".join(value)
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, float):
        value = f"{value:g}"
    return f"`{value}`" if str(value) else ""


def _takes(kind: Any, field: FieldInfo) -> str:
    """Tell the kind of a value, its range, and whether it is a secret."""
    told = _kind(kind, field)
    least = [one.ge for one in field.metadata if isinstance(one, Ge)]
    most = [one.le for one in field.metadata if isinstance(one, Le)]
    if least and most:
        told += f", {least[0]:,} to {most[0]:,}"
    is_secret = SecretStr in (field.annotation, *get_args(field.annotation))
    return f"**secret**: {told}" if is_secret else told


def _kind(kind: Any, field: FieldInfo) -> str:
    if choices := _pattern(field):
        return " or ".join(f"`{choice}`" for choice in choices)
    for known, told in _KINDS:
        if kind == known:
            return told
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    return "a list" if get_origin(field.annotation) is tuple else "text"


def _pattern(field: FieldInfo) -> list[str]:
    """Return the choices of a field that is limited by a pattern of words."""
    patterns = [one.pattern for one in field.metadata if getattr(one, "pattern", None)]
    return patterns[0].partition("(")[2].strip("?i)^($").split("|") if patterns else []


_TEXT: Final = """\
# Every setting

Written by `tests/settings_reference.py` from `server/config`; a test fails where this page says
something else.

* A setting is an environment variable. All are checked at the start; a wrong one stops it and is
  named, and its value is not shown. `wallet-payment config` lists them with the value in force.
* A list is separated by commas. An empty variable is one that is set, to nothing.
* A **secret** is never shown: not in a log, an error, or by `wallet-payment config`.
* What may be given *inline or as @/path/to/file* is best given as a file that only the service's
  user can read.
* Settings that name files of keys, tokens and certificates are looked at again while the service
  runs, as far as [transport](../operation/transport.md) and [tokens](../operation/tokens.md) say
  so. All others are read once: restart to change one.

{groups}"""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
