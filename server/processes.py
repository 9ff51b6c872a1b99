"""Processes of ours: none outlives the one that started it."""

import ctypes
import signal
from contextlib import suppress
from typing import Final

_PARENT_DEATH_SIGNAL: Final = 1


def end_with_parent() -> None:
    """Have the kernel end this process when its parent dies, however that dies (Linux only).

    To be called in the child, before its program starts.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
