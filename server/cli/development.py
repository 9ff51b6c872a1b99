"""What a development machine gets without being asked: keys of its own, kept in its data folder."""

import base64
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any, Final

from server.config import DEVELOPMENT_PREFIX, Settings, SettingsError, load_settings

KEY_ID: Final = "development"
_FILE: Final = "development.json"
_NAMES: Final = (
    "jwt_secret",
    "razorpay_key_secret",
    "razorpay_webhook_secret",
    "paypal_client_secret",
    "stripe_secret_key",
    "stripe_webhook_secret",
    "encryption_secret",
)
_RUNNING: Final = "mongodb.uri"


def development_settings(settings: Settings, **given: Any) -> Settings:  # noqa: ANN401 - settings
    """Fill in what was not chosen; `given` are defaults that `up` has found out.

    Raises:
        SettingsError: the development keys of the data folder cannot be read.
    """
    kept = _secrets(settings.data_dir)
    defaults: dict[str, Any] = {
        "development": True,
        "reflection": True,
        "jwt_algorithms": "HS256,ES256,EdDSA,RS256",
        "jwt_keys": json.dumps({"keys": [_json_web_key(kept["jwt_secret"])]}),
        "encryption_keys": _encryption_key(kept["encryption_secret"]),
        "razorpay_key_id": "rzp_test_sandbox",
        "razorpay_key_secret": kept["razorpay_key_secret"],
        "razorpay_webhook_secrets": kept["razorpay_webhook_secret"],
        "razorpay_upi_email": "shop@example.com",
        "razorpay_upi_contact": "+919000090000",
        "paypal_client_id": "paypal-sandbox",
        "paypal_client_secret": kept["paypal_client_secret"],
        "paypal_webhook_id": "WH-SANDBOX",
        "paypal_environment": "sandbox",
        "stripe_secret_key": kept["stripe_secret_key"],
        "stripe_publishable_key": "pk_test_sandbox",
        "stripe_webhook_secrets": kept["stripe_webhook_secret"],
    } | given
    chosen = {name: getattr(settings, name) for name in settings.model_fields_set}
    return load_settings(**(defaults | chosen))


def sandbox_api_urls(sandbox_url: str) -> dict[str, str]:
    """Return where the sandbox has each gateway's API, as settings."""
    return {
        "razorpay_api_url": sandbox_url,
        "paypal_api_url": sandbox_url,
        "stripe_api_url": f"{sandbox_url}/stripe",
    }


def sandbox_certificates(data_dir: Path, sandbox_url: str) -> dict[str, str]:
    """Return whom to trust with the sandbox's PayPal webhooks, as settings."""
    return {
        "paypal_trust_anchors": str(sandbox_root_file(data_dir)),
        "paypal_certificate_url_prefix": f"{sandbox_url}/v1/notifications/certs/",
    }


def sandbox_root_file(data_dir: Path) -> Path:
    """Return where the sandbox leaves the root of its certificates."""
    return data_dir / "sandbox-paypal-root.pem"


def note_running(data_dir: Path, mongodb_uri: str) -> Path:
    """Leave word where the embedded MongoDB of this folder listens; return the file."""
    file = data_dir / _RUNNING
    file.write_text(mongodb_uri, "utf-8")
    return file


def running_mongodb(data_dir: Path) -> str:
    """Return where a running `up` has its embedded MongoDB; empty if none runs on this folder."""
    file = data_dir / _RUNNING
    return file.read_text("utf-8") if file.exists() else ""


def _secrets(data_dir: Path) -> dict[str, str]:
    """Return this folder's keys; those that are missing are made."""
    file = data_dir / _FILE
    kept: dict[str, str] = {}
    if file.exists():
        try:
            kept = {name: str(value) for name, value in json.loads(file.read_text("utf-8")).items()}
        except (OSError, ValueError, AttributeError):
            raise SettingsError(
                f"{file} cannot be read: remove it, and new development keys are made."
            ) from None
    missing = {
        name: DEVELOPMENT_PREFIX + secrets.token_urlsafe(32) for name in _NAMES if name not in kept
    }
    if missing:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            json.dump(kept | missing, opened, indent=2)
    return kept | missing


def _encryption_key(secret: str) -> str:
    digest = hashlib.sha256(secret.encode()).digest()
    return f"{KEY_ID}:{base64.b64encode(digest).decode()}"


def _json_web_key(secret: str) -> dict[str, str]:
    encoded = base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")
    return {"kty": "oct", "kid": KEY_ID, "alg": "HS256", "k": encoded}
