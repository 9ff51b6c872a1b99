"""Settings of what others may ask for, and what is written down of it."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

from gateway_adapters.rate_limit import Rate, Rates
from gateway_adapters.sidecar.connections import ConnectionLimits
from gateway_adapters.sidecar.limits import SidecarRates
from server.config.values import CommaSeparated
from wallet_payment.v1 import wallet_payment_service_pb2 as service

_METHODS: Final = frozenset(
    service.DESCRIPTOR.services_by_name["WalletPaymentService"].methods_by_name
)


def _rates(value: tuple[str, ...]) -> tuple[str, ...]:
    Rates.parse(value, _METHODS)
    return value


def _rate(value: str) -> str:
    if value:
        Rate.parse(value)
    return value


RatesOfMethods = Annotated[CommaSeparated, AfterValidator(_rates)]
OptionalRate = Annotated[str, AfterValidator(_rate)]


class ExposureSettings(BaseSettings):
    """Limits that hold against callers and against strangers."""

    audit: Literal["continue", "refuse", "off"] = Field(
        default="continue",
        description="What becomes of calls while the audit cannot be written: continue (the metric "
        "wallet_audit_failing tells) or refuse. off, for measuring, needs WALLET_DEVELOPMENT=true.",
    )
    rate_limit_callers: RatesOfMethods = Field(
        default=(),
        description="Calls that each calling service may make, for each method: <per second>:"
        "<burst> for all methods, <method>=<per second>:<burst> for one, comma-separated. Empty: "
        "no limit. ForwardWebhook is limited only where it is named.",
    )
    rate_limit_customers: RatesOfMethods = Field(
        default=(), description="The same for each customer, whoever calls."
    )
    rate_limit_addresses: OptionalRate = Field(
        default="1:100",
        description="Calls without a good token that are looked at from one address, <per second>:"
        "<burst>; further ones are refused unseen. Tokens that were good here before are not "
        "concerned. Empty: no limit.",
    )
    sidecar_rate_limit_addresses: OptionalRate = Field(
        default="1:50",
        description="Refused webhooks that the sidecar bears from one address, <per second>:"
        "<burst>, before it turns the address away for a while. Empty: no limit.",
    )
    sidecar_rate_limit_gateways: OptionalRate = Field(
        default="10:500",
        description="The same for one gateway, from all addresses that sent none with a good "
        "signature within a day.",
    )

    grpc_max_connections: int = Field(
        default=800,
        ge=1,
        le=100_000,
        description="Connections that gRPC takes at most, for each worker; one more is closed at "
        "once. Keep it, with a hundred for MongoDB and some for gateways, below the number of "
        "files that a process may open.",
    )
    sidecar_max_connections: int = Field(
        default=800,
        ge=1,
        le=100_000,
        description="Connections that the sidecar takes at most. Keep it below the number of files "
        "that the process may open.",
    )
    sidecar_max_connections_per_address: int = Field(
        default=200, ge=1, le=100_000, description="Those from one address at most."
    )

    @property
    def connection_limits(self) -> ConnectionLimits:
        """How many connections the sidecar takes."""
        return ConnectionLimits(
            total=self.sidecar_max_connections, per_address=self.sidecar_max_connections_per_address
        )

    @property
    def caller_rates(self) -> Rates:
        """How many calls each caller may make."""
        return Rates.parse(self.rate_limit_callers, _METHODS)

    @property
    def customer_rates(self) -> Rates:
        """How many calls may be made for each customer."""
        return Rates.parse(self.rate_limit_customers, _METHODS)

    @property
    def stranger_rate(self) -> Rate | None:
        """How many calls without a good token are looked at from one address."""
        return Rate.parse(self.rate_limit_addresses) if self.rate_limit_addresses else None

    @property
    def sidecar_rates(self) -> SidecarRates:
        """How many refused webhooks the sidecar bears."""
        addresses, gateways = self.sidecar_rate_limit_addresses, self.sidecar_rate_limit_gateways
        return SidecarRates(
            address=Rate.parse(addresses) if addresses else None,
            gateway=Rate.parse(gateways) if gateways else None,
        )
