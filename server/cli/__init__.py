"""The `wallet-payment` command line."""

import os

# gRPC's core writes a line of its own for each handshake that fails, past the log and its format:
# anybody who connects could fill the log. It reads this when it is loaded.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
