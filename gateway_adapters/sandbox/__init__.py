"""The sandbox: gateways to develop and test against, that speak the real ones' wire formats.

`app` composes it; each gateway is an account (what it knows), its entities (how it says it) and its
HTTP routes. Nothing here is for production: whoever reaches its control endpoints can pay.
"""

from gateway_adapters.sandbox.app import SandboxSettings, sandbox_app
from gateway_adapters.sandbox.paypal_mount import PaypalSandboxSettings
from gateway_adapters.sandbox.razorpay_mount import RazorpaySandboxSettings
from gateway_adapters.sandbox.stripe_mount import StripeSandboxSettings

__all__ = [
    "PaypalSandboxSettings",
    "RazorpaySandboxSettings",
    "SandboxSettings",
    "StripeSandboxSettings",
    "sandbox_app",
]
