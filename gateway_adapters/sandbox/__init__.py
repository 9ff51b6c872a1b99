"""The sandbox: gateways to develop and test against, that speak the real ones' wire formats.

`app` composes it; each gateway is an account (what it knows), its entities (how it says it) and its
HTTP routes; `checkout` is the page where a person pays any of their orders. Nothing here is for
production: whoever reaches it can pay.
"""

from gateway_adapters.sandbox.app import SandboxSettings, sandbox_app
from gateway_adapters.sandbox.apple_pay_certificates import ApplePayFiles
from gateway_adapters.sandbox.apple_pay_mount import ApplePaySandbox, ApplePaySandboxSettings
from gateway_adapters.sandbox.google_pay_mount import KEYS_PATH, GooglePaySandboxSettings
from gateway_adapters.sandbox.paypal_mount import PaypalSandboxSettings
from gateway_adapters.sandbox.razorpay_mount import RazorpaySandboxSettings
from gateway_adapters.sandbox.stripe_mount import StripeSandboxSettings

__all__ = [
    "KEYS_PATH",
    "ApplePayFiles",
    "ApplePaySandbox",
    "ApplePaySandboxSettings",
    "GooglePaySandboxSettings",
    "PaypalSandboxSettings",
    "RazorpaySandboxSettings",
    "SandboxSettings",
    "StripeSandboxSettings",
    "sandbox_app",
]
