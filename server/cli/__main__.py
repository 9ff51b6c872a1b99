"""`python -m server.cli` is `wallet-payment`."""

from server.cli.main import main

if __name__ == "__main__":
    main()
