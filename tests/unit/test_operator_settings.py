"""Whose books an operator's command compares: those that the settings name, or those of `up`."""

from pathlib import Path

from server.cli.operate import operator_settings
from server.config import load_settings


def test_without_a_database_every_gateway_is_the_sandbox_of_up(tmp_path: Path) -> None:
    """No gateway of a development machine is the real one, whichever is asked for."""
    settings = operator_settings(load_settings(data_dir=tmp_path, sandbox_address="127.0.0.1:7"))

    urls = {
        name: getattr(settings, name)
        for name in type(settings).model_fields
        if name.endswith("_api_url")
    }
    assert urls.keys() >= {"razorpay_api_url", "paypal_api_url"}
    assert all(url.startswith("http://127.0.0.1:7") for url in urls.values()), urls


def test_a_named_database_leaves_the_settings_as_they_are(tmp_path: Path) -> None:
    """Where a database is named the gateways are those that are named with it."""
    settings = load_settings(data_dir=tmp_path, mongodb_uri="mongodb://db/x?replicaSet=rs")

    assert operator_settings(settings) is settings
    assert list(tmp_path.iterdir()) == []
