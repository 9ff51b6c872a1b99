"""The sidecar: takes the gateways' webhooks over HTTP and forwards them as RPCs."""

from gateway_adapters.sidecar.app import sidecar_app, sidecar_runner

__all__ = ["sidecar_app", "sidecar_runner"]
