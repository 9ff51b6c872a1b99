"""The `wallet-payment` command line."""
