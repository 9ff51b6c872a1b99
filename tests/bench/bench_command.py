"""`wallet-payment`, ended with its standard input: `bench_command.py serve --workers 2`."""

import os
import signal
import threading

from server.cli.main import main


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    main()
