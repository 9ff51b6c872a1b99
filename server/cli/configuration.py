"""`wallet-payment config`: the settings as they are here."""

from typing import Any

import click
from pydantic import SecretStr

from server.cli.answers import print_json
from server.config import Settings, load_settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def config(as_json: bool) -> None:
    """List the settings: variable, value, meaning. Secrets are not shown."""
    settings = load_settings()
    listed = [
        {
            "variable": f"WALLET_{name.upper()}",
            "value": _shown(getattr(settings, name)),
            "source": "set" if name in settings.model_fields_set else "default",
            "description": field.description,
        }
        for name, field in Settings.model_fields.items()
    ]
    if as_json:
        print_json(listed)
        return
    for one in listed:
        click.echo(f"{one['variable']}={one['value']}  ({one['source']})")
        click.echo(f"    {one['description']}")


def _shown(value: Any) -> str:  # noqa: ANN401 - the value of any setting
    if isinstance(value, SecretStr):
        return "(secret, set)" if value.get_secret_value() else "(secret, not set)"
    if isinstance(value, tuple):
        return ",".join(_shown(part) for part in value)
    return str(value)
