"""`wallet-payment token`: for development and operators, signed with a configured key."""

import secrets
import time
from collections.abc import Iterable

import click
import jwt

from server.cli.answers import print_json
from server.cli.development import development_settings
from server.config import Settings, SettingsError, load_settings, read_key_set
from server.rpc.edge import SERVICE, required_scope


@click.command()
@click.option("--subject", default="developer", show_default=True, help="The calling service.")
@click.option(
    "--scope", "scopes", multiple=True, help="May be repeated; without it, every scope there is."
)
@click.option("--ttl", default=3_600, show_default=True, help="Lifetime in seconds.")
@click.option("--customer", default="", help="Limit the token to this customer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def token(subject: str, scopes: tuple[str, ...], ttl: int, customer: str, as_json: bool) -> None:
    """Print a token, signed with a key of WALLET_JWT_KEYS or, without it, with that of `up`."""
    settings = development_settings(load_settings())
    made = make_token(
        settings,
        subject=subject,
        scopes=scopes or all_scopes(),
        lifetime_seconds=ttl,
        customer_id=customer,
    )
    if as_json:
        print_json({"token": made, "lifetime_seconds": ttl})
        return
    click.echo(made)


def all_scopes() -> tuple[str, ...]:
    """Return every scope of the contract, in alphabetical order."""
    return tuple(sorted({required_scope(method) for method in SERVICE.methods}))


def make_token(
    settings: Settings,
    *,
    subject: str,
    scopes: Iterable[str],
    lifetime_seconds: int,
    customer_id: str = "",
) -> str:
    """Return a signed token; with `customer_id` it is limited to that customer.

    Raises:
        SettingsError: the key set has no key that can sign.
    """
    now = int(time.time())
    claims = {
        "iss": settings.jwt_issuer,
        "aud": settings.jwt_audience,
        "sub": subject,
        "scope": " ".join(scopes),
        "iat": now,
        "exp": now + lifetime_seconds,
        "jti": secrets.token_hex(16),
    }
    if customer_id:
        claims["customer_id"] = customer_id
    for key in read_key_set(settings.jwt_keys):
        if "k" in key or "d" in key:
            signer = jwt.PyJWK(key)
            return jwt.encode(claims, signer.key, key["alg"], headers={"kid": key["kid"]})
    raise SettingsError(
        "WALLET_JWT_KEYS has public keys only: tokens are made by whoever has the private ones."
    )
