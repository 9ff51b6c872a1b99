"""Razorpay: orders, checkout proofs, lookups and webhooks."""

from gateway_adapters.razorpay.adapter import Razorpay, RazorpaySettings

__all__ = ["Razorpay", "RazorpaySettings"]
