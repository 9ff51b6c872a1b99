"""What is to be known of an account at PayPal."""

from dataclasses import dataclass, field
from typing import Final, Literal

from yarl import URL

Environment = Literal["live", "sandbox"]

_CERTIFICATE_PATH: Final = "/v1/notifications/certs/"
CERTIFICATE_URL_PREFIXES: Final[dict[Environment, str]] = {
    "live": f"https://api.paypal.com{_CERTIFICATE_PATH}",
    "sandbox": f"https://api.sandbox.paypal.com{_CERTIFICATE_PATH}",
}
_CERTIFICATE_NAMES: Final[dict[Environment, str]] = {
    "live": "messageverificationcerts.paypal.com",
    "sandbox": "messageverificationcerts.sandbox.paypal.com",
}
_LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class PaypalSettings:
    """An account at PayPal, of the real one or of its sandbox."""

    api_url: str
    """Without `/v1` or `/v2`, such as `https://api-m.paypal.com`."""
    client_id: str
    client_secret: str = field(repr=False)
    webhook_id: str
    """PayPal's id of the webhook's subscription, which every signature covers."""
    environment: Environment
    """Decides whose certificates sign webhooks, and from where they are fetched."""
    return_url: str = ""
    """Where PayPal sends a customer who approved, unless the top-up says another place."""
    cancel_url: str = ""
    """Where PayPal sends a customer who did not; empty: as `return_url`."""
    trust_anchors_pem: bytes = field(default=b"", repr=False)
    """The roots that webhooks' certificates have to reach; empty: those of the system."""
    certificate_url_prefix: str = ""
    """What a webhook's certificate URL has to start with; empty: PayPal's own. For a sandbox on
    this machine, which may also have no TLS."""
    timeout_seconds: float = 3.0
    """For each request, in all."""

    def __post_init__(self) -> None:
        """Refuse what would let anybody sign."""
        if not self.client_id or not self.client_secret or not self.webhook_id:
            raise ValueError("PayPal's client id, its secret and the webhook id must not be blank.")
        if self.environment not in _CERTIFICATE_NAMES:
            raise ValueError("PayPal's environment is live or sandbox.")
        if self.certificate_url_prefix:
            _check_prefix(self.certificate_url_prefix)

    @property
    def allowed_certificate_url_prefix(self) -> str:
        """What stands before a certificate's id in the URLs that are fetched."""
        return self.certificate_url_prefix or CERTIFICATE_URL_PREFIXES[self.environment]

    @property
    def certificate_name(self) -> str:
        """The DNS name that a webhook's certificate is for."""
        return _CERTIFICATE_NAMES[self.environment]


def _check_prefix(prefix: str) -> None:
    url = URL(prefix)
    is_local = url.scheme == "http" and url.host in _LOOPBACK_HOSTS
    if url.scheme != "https" and not is_local:
        raise ValueError("PayPal's certificate URLs start with https://, except on this machine.")
    if url.host is None or not url.path.endswith(_CERTIFICATE_PATH) or str(url) != prefix:
        raise ValueError(f"PayPal's certificate URLs have a path that ends in {_CERTIFICATE_PATH}")
    if url.user is not None or url.query_string or url.fragment:
        raise ValueError("PayPal's certificate URLs are no more than scheme, host, port and path.")
