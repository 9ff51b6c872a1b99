"""The wallet-payment service."""
