"""`wallet-payment keys`: makes keys that sign tokens, and takes them out of use again."""

import json
import os
from pathlib import Path
from typing import Any, Final

import click
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from server.cli.answers import print_json
from server.config import parse_key_set
from server.told import ToldInWords

_ALGORITHMS: Final = ("ES256", "EdDSA", "RS256")
_RSA_BITS: Final = 3_072
_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class BadKeyFile(ToldInWords):
    """A file of keys is not as it has to be; the message names it and says what to do."""


@click.group()
def keys() -> None:
    """Make and retire the keys that tokens are signed with."""


@keys.command()
@click.argument("kid")
@click.option(
    "--algorithm",
    type=click.Choice(["ES256", "EdDSA", "RS256"]),
    default="ES256",
    show_default=True,
)
@click.option("--private", type=_FILE, required=True, help="New file for the private key.")
@click.option("--public", type=_FILE, required=True, help="Key set of the servers; may be new.")
@_json
def new(kid: str, algorithm: str, private: Path, public: Path, as_json: bool) -> None:
    """Make the key KID: its private half for who signs tokens, its public one for the servers."""
    published = _read(public) if public.exists() else []
    if any(key["kid"] == kid for key in published):
        raise BadKeyFile(f"{public} has a key {kid} already: name the new one otherwise.")
    signer, written = _make(algorithm)
    named = {"kid": kid, "alg": algorithm}
    _write_private(private, [written.to_jwk(signer, as_dict=True) | named])
    _replace(public, [*published, written.to_jwk(signer.public_key(), as_dict=True) | named])
    if as_json:
        print_json({"private": str(private)} | _told(public))
        return
    click.echo(f"{private} signs, {public} verifies: {', '.join(_names(public))}")


@keys.command()
@click.argument("kid")
@click.option("--public", type=_FILE, required=True, help="Key set of the servers.")
@_json
def retire(kid: str, public: Path, as_json: bool) -> None:
    """Take the key KID out of the servers' key set: from then on its tokens are refused."""
    published = _read(public)
    left = [key for key in published if key["kid"] != kid]
    if len(left) == len(published):
        raise BadKeyFile(f"{public} has no key {kid}: it has {', '.join(_names(public))}.")
    if not left:
        raise BadKeyFile(f"{kid} is the last key of {public}: make another one before.")
    _replace(public, left)
    if as_json:
        print_json(_told(public))
        return
    click.echo(f"{public} verifies: {', '.join(_names(public))}")


def _make(algorithm: str) -> tuple[Any, Any]:
    """Return a new private key, and what writes it as a JSON Web Key."""
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1()), jwt.algorithms.ECAlgorithm
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate(), jwt.algorithms.OKPAlgorithm
    return rsa.generate_private_key(65_537, _RSA_BITS), jwt.algorithms.RSAAlgorithm


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        return parse_key_set(file.read_bytes())
    except OSError:
        raise BadKeyFile(f"{file} cannot be read.") from None
    except ValueError:
        raise BadKeyFile(f"{file} is not a JSON Web Key Set.") from None


def _names(file: Path) -> list[str]:
    return [key["kid"] for key in _read(file)]


def _told(public: Path) -> dict[str, Any]:
    return {"public": str(public), "verifies": _names(public)}


def _write_private(file: Path, key_set: list[dict[str, Any]]) -> None:
    """Write a new file that only its owner may read; one that is there is never overwritten."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BadKeyFile(f"{file} is there already: a private key is never overwritten.") from None
    except OSError:
        raise BadKeyFile(f"{file} cannot be written.") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        json.dump({"keys": key_set}, opened, indent=2)


def _replace(file: Path, key_set: list[dict[str, Any]]) -> None:
    """Replace a file in one step: a server that looks meanwhile sees the old one or the new one."""
    made = file.with_name(f"{file.name}.new")
    try:
        made.write_text(json.dumps({"keys": key_set}, indent=2), "utf-8")
        made.replace(file)
    except OSError:
        raise BadKeyFile(f"{file} cannot be written.") from None
