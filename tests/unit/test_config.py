"""Settings: all wrong ones are named at the start, and no secret is ever shown."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from server.config import DEVELOPMENT_PREFIX, Settings, SettingsError, load_settings

SECRET = "a shared secret of at least thirty-two bytes"


def key_set(secret: str = SECRET, **fields: Any) -> str:
    """Return a JSON Web Key Set with one shared secret; `fields` change its key, None removes."""
    encoded = base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")
    key = {"kty": "oct", "kid": "one", "alg": "HS256", "k": encoded} | fields
    present = {name: value for name, value in key.items() if value is not None}
    return json.dumps({"keys": [present]})


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an environment without settings."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"WALLET_{name.upper()}", raising=False)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("WALLET_GRPC_ADDRESS", "50051", "host:port"),
        ("WALLET_GRPC_ADDRESS", ":50051", "host:port"),
        ("WALLET_GRPC_ADDRESS", "localhost:70000", "host:port"),
        ("WALLET_METRICS_ADDRESS", "localhost:http", "host:port"),
        ("WALLET_JWT_ALGORITHMS", "none", "HS256"),
        ("WALLET_JWT_ALGORITHMS", "HS256,none", "HS256"),
        ("WALLET_JWT_ALGORITHMS", "", "HS256"),
        ("WALLET_JWT_KEYS", "secret", "JSON Web Key Set"),
        ("WALLET_JWT_KEYS", "{}", "JSON Web Key Set"),
        ("WALLET_JWT_KEYS", "@/does/not/exist", "cannot be read"),
        ("WALLET_JWT_KEYS", key_set("too short"), "32 bytes"),
        ("WALLET_JWT_KEYS", key_set(alg="none"), "`alg`"),
        ("WALLET_JWT_KEYS", key_set(kid=None), "`kid`"),
        ("WALLET_RAZORPAY_UPI_EMAIL", "shop", "email address"),
        ("WALLET_RAZORPAY_UPI_CONTACT", "call us", "phone number"),
        ("WALLET_LOG_LEVEL", "loud", "debug"),
        ("WALLET_TOPUP_LIFETIME_SECONDS", "soon", "integer"),
        ("WALLET_COMMIT_MAX_BATCH", "0", "greater"),
        ("WALLET_COMMIT_LANES", "1000", "less"),
        ("WALLET_WATCH_INTERVAL_SECONDS", "0", "greater"),
        ("WALLET_PROOF_INTERVAL_SECONDS", "-1", "greater"),
        ("WALLET_OTLP_ENDPOINT", "collector:4317", "pattern"),
        ("WALLET_TRACE_SHARE", "2", "less"),
    ],
)
def test_a_wrong_setting_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    """Whatever cannot be used is refused with the variable's name and what it takes."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError) as refused:
        load_settings()

    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{variable}: ")
    assert says in line


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two wrong variables are two lines."""
    monkeypatch.setenv("WALLET_GRPC_ADDRESS", "here")
    monkeypatch.setenv("WALLET_LOG_LEVEL", "loud")

    with pytest.raises(SettingsError) as refused:
        load_settings()

    named = {line.partition(":")[0] for line in str(refused.value).splitlines()}
    assert named == {"WALLET_GRPC_ADDRESS", "WALLET_LOG_LEVEL"}


@pytest.mark.parametrize(
    "account",
    [
        ("RAZORPAY_KEY_ID", "RAZORPAY_KEY_SECRET", "RAZORPAY_WEBHOOK_SECRETS"),
        ("PAYPAL_CLIENT_ID", "PAYPAL_CLIENT_SECRET", "PAYPAL_WEBHOOK_ID"),
        ("STRIPE_SECRET_KEY", "STRIPE_PUBLISHABLE_KEY", "STRIPE_WEBHOOK_SECRETS"),
    ],
)
def test_half_an_account_is_no_account(
    monkeypatch: pytest.MonkeyPatch, account: tuple[str, ...]
) -> None:
    """Where one of a gateway's settings is there, the missing ones are named."""
    for given in account:
        with monkeypatch.context() as environment:
            environment.setenv(f"WALLET_{given}", "something")
            with pytest.raises(SettingsError) as refused:
                load_settings()
        named = {name for name in account if f"WALLET_{name}" in str(refused.value)}
        assert named == set(account) - {given}


@pytest.mark.parametrize(
    ("given", "value", "missing"),
    [
        ("WALLET_RAZORPAY_UPI_EMAIL", "shop@example.com", "WALLET_RAZORPAY_UPI_CONTACT"),
        ("WALLET_RAZORPAY_UPI_CONTACT", "+919000090000", "WALLET_RAZORPAY_UPI_EMAIL"),
    ],
)
def test_half_a_payer_is_no_payer(
    monkeypatch: pytest.MonkeyPatch, given: str, value: str, missing: str
) -> None:
    """Razorpay wants both an email and a phone number: one without the other is a mistake."""
    monkeypatch.setenv(given, value)

    with pytest.raises(SettingsError) as refused:
        load_settings()

    assert missing in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "missing"),
    [
        ("WALLET_APPLE_PAY_ROOT", "WALLET_APPLE_PAY_PROCESSING_CERTIFICATE"),
        ("WALLET_APPLE_PAY_MERCHANT_ID", "WALLET_APPLE_PAY_IDENTITY_KEY"),
        ("WALLET_APPLE_PAY_IDENTITY_KEY", "WALLET_APPLE_PAY_DOMAINS"),
    ],
)
def test_half_a_wallet_is_no_wallet(
    monkeypatch: pytest.MonkeyPatch, variable: str, missing: str
) -> None:
    """Tokens and sessions of Apple Pay are each set up whole, or not at all."""
    monkeypatch.setenv(variable, "something")

    with pytest.raises(SettingsError, match=missing):
        load_settings()


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several webhook secrets and algorithms stand in one variable, the current one first."""
    monkeypatch.setenv("WALLET_RAZORPAY_KEY_ID", "rzp")
    monkeypatch.setenv("WALLET_RAZORPAY_KEY_SECRET", "secret")
    monkeypatch.setenv("WALLET_RAZORPAY_WEBHOOK_SECRETS", "current, former,")
    monkeypatch.setenv("WALLET_STRIPE_SECRET_KEY", "sk_live_1")
    monkeypatch.setenv("WALLET_STRIPE_PUBLISHABLE_KEY", "pk_live_1")
    monkeypatch.setenv("WALLET_STRIPE_WEBHOOK_SECRETS", "whsec_1 ,whsec_0")
    monkeypatch.setenv("WALLET_JWT_ALGORITHMS", "HS256, RS256")

    settings = load_settings()

    secrets = [secret.get_secret_value() for secret in settings.razorpay_webhook_secrets]
    assert secrets == ["current", "former"]
    secrets = [secret.get_secret_value() for secret in settings.stripe_webhook_secrets]
    assert secrets == ["whsec_1", "whsec_0"]
    assert settings.jwt_algorithms == ("HS256", "RS256")


def test_no_secret_is_ever_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a text of the settings nor an error about them holds a secret's value."""
    secrets = {
        "WALLET_MONGODB_URI": "mongodb://root:hidden-uri@db/wallet",
        "WALLET_SIDECAR_TOKEN": "hidden-token",
        "WALLET_JWT_KEYS": key_set("hidden-jwt-secret-of-more-than-32-bytes"),
        "WALLET_RAZORPAY_KEY_ID": "rzp",
        "WALLET_RAZORPAY_KEY_SECRET": "hidden-key",
        "WALLET_RAZORPAY_WEBHOOK_SECRETS": "hidden-webhook,hidden-former",
        "WALLET_STRIPE_SECRET_KEY": "hidden-stripe",
        "WALLET_STRIPE_PUBLISHABLE_KEY": "pk",
        "WALLET_STRIPE_WEBHOOK_SECRETS": "hidden-stripe-webhook,hidden-stripe-former",
    }
    for variable, value in secrets.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    encoded = json.loads(secrets["WALLET_JWT_KEYS"])["keys"][0]["k"]
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "hidden" not in text
        assert encoded not in text

    broken = tmp_path / "keys.json"
    broken.write_text('{"keys": [{"k": "hidden"}]}')
    monkeypatch.setenv("WALLET_JWT_KEYS", f"@{broken}")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "hidden" not in str(refused.value)


def test_serving_needs_a_database_and_keys() -> None:
    """Without a database and without keys, serving is refused, with both variables named."""
    with pytest.raises(SettingsError) as refused:
        load_settings().check_serving()

    assert "WALLET_MONGODB_URI" in str(refused.value)
    assert "WALLET_JWT_KEYS" in str(refused.value)


def test_keys_of_no_allowed_algorithm_are_no_keys() -> None:
    """Keys that no accepted token could be signed with are refused before serving."""
    settings = load_settings(
        mongodb_uri="mongodb://localhost/", jwt_keys=key_set(), jwt_algorithms="RS256"
    )

    with pytest.raises(SettingsError, match="WALLET_JWT_ALGORITHMS"):
        settings.check_serving()


@pytest.mark.parametrize(
    ("fields", "variable"),
    [
        ({"jwt_keys": key_set(DEVELOPMENT_PREFIX + SECRET)}, "WALLET_JWT_KEYS"),
        ({"razorpay_key_secret": DEVELOPMENT_PREFIX + "key"}, "WALLET_RAZORPAY_KEY_SECRET"),
        (
            {"razorpay_webhook_secrets": f"real,{DEVELOPMENT_PREFIX}former"},
            "WALLET_RAZORPAY_WEBHOOK_SECRETS",
        ),
        ({"paypal_client_secret": DEVELOPMENT_PREFIX + "key"}, "WALLET_PAYPAL_CLIENT_SECRET"),
        ({"stripe_secret_key": DEVELOPMENT_PREFIX + "key"}, "WALLET_STRIPE_SECRET_KEY"),
        (
            {"stripe_webhook_secrets": f"real,{DEVELOPMENT_PREFIX}former"},
            "WALLET_STRIPE_WEBHOOK_SECRETS",
        ),
    ],
)
def test_development_secrets_are_for_development(fields: dict[str, str], variable: str) -> None:
    """A development secret is refused by name, unless this is said to be development."""
    given: dict[str, Any] = {
        "mongodb_uri": "mongodb://localhost/?replicaSet=wallet",
        "jwt_algorithms": "HS256",
        "jwt_keys": key_set(),
        "razorpay_key_id": "rzp",
        "razorpay_key_secret": "key",
        "razorpay_webhook_secrets": "webhook",
        "paypal_client_id": "client",
        "paypal_client_secret": "secret",
        "paypal_webhook_id": "webhook",
        "stripe_secret_key": "sk_live_1",
        "stripe_publishable_key": "pk_live_1",
        "stripe_webhook_secrets": "whsec_1",
    }
    load_settings(**given).check_serving()

    with pytest.raises(SettingsError) as refused:
        load_settings(**given | fields).check_serving()
    assert variable in str(refused.value)
    load_settings(**given | fields, development=True).check_serving()
