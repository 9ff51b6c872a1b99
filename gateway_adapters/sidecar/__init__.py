"""The sidecar: takes the gateways' webhooks over HTTP and forwards them as RPCs."""

from gateway_adapters.sidecar.app import sidecar_app, sidecar_runner
from gateway_adapters.sidecar.connections import ConnectionLimits
from gateway_adapters.sidecar.limits import SidecarRates
from gateway_adapters.sidecar.remote import TrustedProxies

__all__ = ["ConnectionLimits", "SidecarRates", "TrustedProxies", "sidecar_app", "sidecar_runner"]
