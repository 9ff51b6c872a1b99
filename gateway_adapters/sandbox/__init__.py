"""The sandbox: gateways to develop and test against, that speak the real ones' wire formats.

`app` composes it; each gateway is an account (what it knows), its entities (how it says it) and its
HTTP routes; `checkout` is the page where a person pays any of their orders. Nothing here is for
production: whoever reaches it can pay.
"""

from gateway_adapters.sandbox.app import PAYPAL, SandboxSettings, sandbox_app
from gateway_adapters.sandbox.paypal_mount import PaypalSandboxSettings

__all__ = ["PAYPAL", "PaypalSandboxSettings", "SandboxSettings", "sandbox_app"]
