"""Settings: all wrong ones are named at the start, and no secret is ever shown."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from certificate_bench import DAY, Authority
from gateway_adapters.rate_limit import Rate, Rates
from gateway_adapters.sidecar import SidecarRates
from server.cli.main import cli
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
        ("WALLET_JWT_KEYS", key_set(kid=7), "`kid`"),
        ("WALLET_JWT_KEYS", key_set(alg=["HS256"]), "`alg`"),
        ("WALLET_JWT_KEYS", key_set(k=5), "32 bytes"),
        ("WALLET_JWT_KEYS", '{"keys": 1}', "JSON Web Key Set"),
        ("WALLET_JWT_KEYS_URL", "http://keys.example.com/keys", "https://"),
        ("WALLET_JWT_KEYS_URL", "ftp://127.0.0.1/keys", "https://"),
        ("WALLET_JWT_KEYS_URL", "https://user:secret@keys.example.com/keys", "https://"),
        ("WALLET_JWT_KEYS_URL", "keys.json", "https://"),
        ("WALLET_JWT_KEYS_REFRESH_SECONDS", "0", "greater"),
        ("WALLET_JWT_REVOKED", "/does/not/exist", "no file"),
        ("WALLET_RELOAD_SECONDS", "0", "greater"),
        ("WALLET_GRPC_CERTIFICATE", "/does/not/exist", "no file"),
        ("WALLET_GRPC_CLIENT_ROOTS", "system", "no file"),
        ("WALLET_GRPC_KEY", "-----BEGIN PRIVATE KEY-----\n" + "A" * 5_000, "no file"),
        ("WALLET_SERVER_ROOTS", "/does/not/exist", "no file"),
        ("WALLET_GRPC_SUBJECT_NAMES", "order-service", "sub=name"),
        ("WALLET_GRPC_SUBJECT_NAMES", "*,order-service=", "sub=name"),
        ("WALLET_GRPC_CONNECTION_SECONDS", "0", "greater"),
        ("WALLET_GRPC_PLAINTEXT", "yes", "allowed"),
        ("WALLET_METRICS_PLAINTEXT", "true", "allowed"),
        ("WALLET_SIDECAR_PLAINTEXT", "", "allowed"),
        ("WALLET_SIDECAR_TRUSTED_PROXIES", "proxy.example.com", "networks"),
        ("WALLET_SIDECAR_TRUSTED_PROXIES", "10.0.0.1/8", "networks"),
        ("WALLET_SIDECAR_TRUSTED_PROXIES", "10.0.0.0/8,0.0.0.0/0", "everybody"),
        ("WALLET_SIDECAR_TRUSTED_PROXIES", "::/0", "everybody"),
        ("WALLET_SIDECAR_TRUSTED_PROXIES", "::ffff:0:0/96", "everybody"),
        ("WALLET_SIDECAR_FORWARDED_HEADER", "X-Real-IP", "Forwarded"),
        ("WALLET_SIDECAR_METRICS_ADDRESS", "9465", "host:port"),
        ("WALLET_RAZORPAY_UPI_EMAIL", "shop", "email address"),
        ("WALLET_RAZORPAY_UPI_CONTACT", "call us", "phone number"),
        ("WALLET_RATE_LIMIT_CALLERS", "fast", "<per second>"),
        ("WALLET_RATE_LIMIT_CALLERS", "PayWithWalet=1", "PayWithWallet"),
        ("WALLET_RATE_LIMIT_CUSTOMERS", "1,2", "one rate for all"),
        ("WALLET_RATE_LIMIT_CUSTOMERS", "GetStatus=0", "<per second>"),
        ("WALLET_RATE_LIMIT_ADDRESSES", "0:5", "<per second>"),
        ("WALLET_RATE_LIMIT_ADDRESSES", "GetStatus=5", "<per second>"),
        ("WALLET_SIDECAR_RATE_LIMIT_ADDRESSES", "-1", "<per second>"),
        ("WALLET_SIDECAR_RATE_LIMIT_GATEWAYS", "1:none", "<per second>"),
        ("WALLET_GRPC_MAX_CONNECTIONS", "0", "greater"),
        ("WALLET_GRPC_MAX_CONNECTIONS", "unlimited", "integer"),
        ("WALLET_SIDECAR_MAX_CONNECTIONS", "0", "greater"),
        ("WALLET_SIDECAR_MAX_CONNECTIONS_PER_ADDRESS", "many", "integer"),
        ("WALLET_AUDIT", "sometimes", "refuse"),
        ("WALLET_LOG_LEVEL", "loud", "debug"),
        ("WALLET_TOPUP_LIFETIME_SECONDS", "soon", "integer"),
        ("WALLET_COMMIT_MAX_BATCH", "0", "greater"),
        ("WALLET_COMMIT_LANES", "1000", "less"),
        ("WALLET_OUTGOING_WEBHOOK_URL", "http://shop.example/hooks", "https"),
        ("WALLET_OUTGOING_WEBHOOK_URL", "ftp://127.0.0.1/hooks", "https"),
        ("WALLET_OUTGOING_WEBHOOK_URL", "https://user:secret@shop.example/hooks", "credentials"),
        ("WALLET_OUTGOING_WEBHOOK_URL", "http://127.0.0.1@shop.example/hooks", "https"),
        ("WALLET_OUTGOING_WEBHOOK_URL", "http://127.0.0.1.shop.example/hooks", "https"),
        ("WALLET_OUTGOING_WEBHOOK_URL", "http://169.254.169.254/latest", "https"),
        ("WALLET_OUTGOING_WEBHOOK_URL", "http://10.0.0.1\\@127.0.0.1/hooks", "https"),
        ("WALLET_OUTGOING_WEBHOOK_URL", "//127.0.0.1/hooks", "https"),
        ("WALLET_OUTGOING_WEBHOOK_URL", "file:///etc/passwd", "https"),
        ("WALLET_OUTGOING_WEBHOOK_URL", "https:///hooks", "https"),
        ("WALLET_OTLP_ENDPOINT", "https://user:secret@collector:4317", "pattern"),
        ("WALLET_OUTGOING_WEBHOOK_SECRETS", "secret", "whsec_"),
        ("WALLET_OUTGOING_WEBHOOK_TYPES", "PAYMENT", "PAYMENT_MADE"),
        ("WALLET_OUTGOING_WEBHOOK_ATTEMPTS", "0", "greater"),
        ("WALLET_OUTGOING_WEBHOOK_RETRY_SECONDS", "0", "greater"),
        ("WALLET_EVENTS_MAX_READERS", "0", "greater"),
        ("WALLET_EVENTS_HEARTBEAT_SECONDS", "0", "greater"),
        ("WALLET_EVENTS_STREAM_SECONDS", "forever", "number"),
        ("WALLET_EVENTS_SLOW_READER_SECONDS", "-1", "greater"),
        ("WALLET_WATCH_INTERVAL_SECONDS", "0", "greater"),
        ("WALLET_PROOF_INTERVAL_SECONDS", "-1", "greater"),
        ("WALLET_LIMITS", "1000", "the tier default"),
        ("WALLET_LIMITS", "{", "takes JSON"),
        ("WALLET_LIMITS", "@/does/not/exist", "cannot be read"),
        ("WALLET_LIMITS", '{"verified": {}}', "the tier default"),
        ("WALLET_LIMITS", '{"default": {}, "Über": {}}', "no name in lower case"),
        ("WALLET_LIMITS", '{"default": []}', "takes currencies"),
        ("WALLET_LIMITS", '{"default": {"XXX": {}}}', "ISO 4217"),
        ("WALLET_LIMITS", '{"default": {"INR": 5}}', "default.INR takes limits"),
        ("WALLET_LIMITS", '{"default": {"INR": {"daily": 5}}}', "no limit 'daily'"),
        ("WALLET_LIMITS", '{"default": {"INR": {"daily_spend": 5.5}}}', "whole number"),
        ("WALLET_LIMITS", '{"default": {"INR": {"daily_spend": "5"}}}', "whole number"),
        ("WALLET_LIMITS", '{"default": {"INR": {"daily_spend": -1}}}', "whole number"),
        ("WALLET_LIMITS", '{"default": {"INR": {"daily_spend": true}}}', "whole number"),
        ("WALLET_LIMITS", '{"default": {"INR": {"daily_spend": 1e3}}}', "whole number"),
        ("WALLET_LIMITS", '{"default": {"INR": {"min_topup": 9, "max_topup": 8}}}', "min_topup"),
        ("WALLET_LIMITS", '{"default": {}, "default": {}}', "twice"),
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


@pytest.mark.parametrize(
    ("variable", "needed"),
    [
        ("WALLET_GRPC_CERTIFICATE", "WALLET_GRPC_KEY"),
        ("WALLET_GRPC_KEY", "WALLET_GRPC_CERTIFICATE"),
        ("WALLET_GRPC_CLIENT_ROOTS", "WALLET_GRPC_CERTIFICATE"),
        ("WALLET_SIDECAR_CERTIFICATE", "WALLET_SIDECAR_KEY"),
        ("WALLET_SIDECAR_CLIENT_CERTIFICATE", "WALLET_SIDECAR_CLIENT_KEY"),
        ("WALLET_SERVER_NAME", "WALLET_SERVER_ROOTS"),
    ],
)
def test_half_of_tls_is_no_tls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, needed: str
) -> None:
    """Where one of its settings is there, the missing one is named."""
    file = tmp_path / "any.pem"
    file.touch()
    monkeypatch.setenv(variable, str(file))

    with pytest.raises(SettingsError, match=f"^{needed}: is needed"):
        load_settings()


def test_names_of_callers_need_their_certificates(tmp_path: Path) -> None:
    """Tokens cannot be bound to certificates that nobody is asked for."""
    file = tmp_path / "any.pem"
    file.touch()
    with pytest.raises(SettingsError, match="WALLET_GRPC_CLIENT_ROOTS"):
        load_settings(grpc_certificate=str(file), grpc_key=str(file), grpc_subject_names="*")


def certificate(folder: Path) -> tuple[str, str]:
    """Return the files of a good certificate and its key."""
    return Authority().server().write(folder, "server")


SERVING: dict[str, Any] = {
    "mongodb_uri": "mongodb://localhost/",
    "jwt_keys": key_set(),
    "jwt_algorithms": "HS256",
}
FORWARDING: dict[str, Any] = {"sidecar_token": "token"}


@pytest.mark.parametrize(
    ("check", "address", "plaintext"),
    [
        ("check_serving", "grpc_address", "grpc_plaintext"),
        ("check_serving", "metrics_address", "metrics_plaintext"),
        ("check_forwarding", "sidecar_address", "sidecar_plaintext"),
        ("check_forwarding", "sidecar_metrics_address", "metrics_plaintext"),
        ("check_forwarding", "server_target", "grpc_plaintext"),
        ("check_development", "grpc_address", "grpc_plaintext"),
        ("check_development", "sidecar_address", "sidecar_plaintext"),
        ("check_development", "metrics_address", "metrics_plaintext"),
    ],
)
def test_plaintext_stays_on_loopback(check: str, address: str, plaintext: str) -> None:
    """Beyond loopback it is refused, with both variables named, unless that is said to be meant."""
    given = SERVING | FORWARDING
    for here in ("127.0.0.1:0", "127.8.8.8:1", "localhost:0", "[::1]:0"):
        getattr(load_settings(**given | {address: here}), check)()

    for beyond in ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "wallet.example.com:1", "localhost.:1"):
        with pytest.raises(SettingsError) as refused:
            getattr(load_settings(**given | {address: beyond}), check)()
        assert f"WALLET_{address.upper()}={beyond} would be plaintext" in str(refused.value)
        assert f"WALLET_{plaintext.upper()}=allowed" in str(refused.value)
        getattr(load_settings(**given | {address: beyond, plaintext: "allowed"}), check)()


def test_tls_is_for_anywhere_and_not_for_up(tmp_path: Path) -> None:
    """With a certificate gRPC and webhooks are served anywhere; `up` says that it has no TLS."""
    tls = dict(zip(("grpc_certificate", "grpc_key"), certificate(tmp_path), strict=True))
    tls |= {"sidecar_certificate": tls["grpc_certificate"], "sidecar_key": tls["grpc_key"]}
    tls["server_roots"] = "system"
    everywhere = {"grpc_address": "0.0.0.0:1", "sidecar_address": "[::]:1"}
    settings = load_settings(
        **SERVING | FORWARDING | tls | everywhere, server_target="wallet.example.com:1"
    )

    settings.check_serving()
    settings.check_forwarding()
    with pytest.raises(SettingsError, match="WALLET_GRPC_CERTIFICATE"):
        settings.check_development()


def test_a_sidecar_needs_its_token() -> None:
    """Without one nothing could be forwarded: the message says how to make it."""
    with pytest.raises(SettingsError, match="WALLET_SIDECAR_TOKEN"):
        load_settings().check_forwarding()


def test_what_cannot_be_used_is_named_before_serving(tmp_path: Path) -> None:
    """A certificate that expired and a key that is none stop the start of all workers at once."""
    expired = Authority().issue("server", begins=-2 * DAY, ends=-DAY).write(tmp_path, "server")
    no_key = {"keys": [{"kid": "one", "alg": "ES256", "kty": "EC", "crv": "P-256", "x": "*"}]}
    settings = load_settings(
        mongodb_uri="mongodb://localhost/",
        jwt_keys=json.dumps(no_key),
        grpc_certificate=expired[0],
        grpc_key=expired[1],
    )

    with pytest.raises(SettingsError) as refused:
        settings.check_serving()

    keys, certificates = str(refused.value).splitlines()
    assert keys == "WALLET_JWT_KEYS: a key cannot be read."
    assert certificates.startswith("WALLET_GRPC_CERTIFICATE: the certificate expired at ")


@pytest.mark.parametrize("command", ["serve", "sidecar", "up"])
def test_no_command_starts_in_plaintext_beyond_loopback(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Each of them ends at once, and says which variable would allow it."""
    address = "WALLET_SIDECAR_ADDRESS" if command == "sidecar" else "WALLET_GRPC_ADDRESS"
    for name, value in (SERVING | FORWARDING).items():
        monkeypatch.setenv(f"WALLET_{name.upper()}", value)
    monkeypatch.setenv(address, "0.0.0.0:0")

    result = CliRunner().invoke(cli, [command])

    assert isinstance(result.exception, SettingsError)
    assert f"{address}=0.0.0.0:0 would be plaintext" in str(result.exception)


def test_rates_are_read_and_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method's own rate comes before the general one; an empty setting is no limit."""
    monkeypatch.setenv("WALLET_RATE_LIMIT_CALLERS", "100:200, PayWithWallet=5")
    monkeypatch.setenv("WALLET_SIDECAR_RATE_LIMIT_ADDRESSES", "")

    settings = load_settings()

    assert settings.caller_rates.general == Rate(100, 200)
    assert settings.caller_rates.named == {"PayWithWallet": Rate(5, 5)}
    assert settings.customer_rates == Rates()
    assert settings.sidecar_rates == SidecarRates(address=None, gateway=Rate(10, 500))


def test_outgoing_webhooks_need_url_and_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where to post to and what to sign with are of use together alone."""
    monkeypatch.setenv("WALLET_OUTGOING_WEBHOOK_URL", "https://shop.example/hooks")

    with pytest.raises(SettingsError, match="WALLET_OUTGOING_WEBHOOK_SECRETS: is needed"):
        load_settings()
