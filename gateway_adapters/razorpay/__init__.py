"""Razorpay: orders, UPI intents, QR codes, checkout proofs, lookups and webhooks."""

from gateway_adapters.razorpay.adapter import Razorpay, RazorpaySettings
from gateway_adapters.razorpay.upi_intents import UpiPayer

__all__ = ["Razorpay", "RazorpaySettings", "UpiPayer"]
