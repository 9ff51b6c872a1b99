"""How a submitted command can fail.

CommitError
|-- Rejected           the ledger said no, with a reason; nothing changed
|-- QueueFull          too many commands wait already; nothing was done
|-- NotStarted         the time was over before the command's turn came; nothing was done
|-- Conflicted         other writers came first until the time was over; nothing was done
|-- Unavailable        the store did not answer in time; the outcome may be unknown
`-- CommandFailed      something unforeseen, with this one command; nothing was done
"""

from server.ledger.rejection import Rejection


class CommitError(Exception):
    """Base of what submitting a command raises."""


class Rejected(CommitError):
    """The ledger said no."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.reason)
        self.rejection = rejection


class QueueFull(CommitError):
    """Too many commands wait already."""


class NotStarted(CommitError):
    """The time was over while the command waited for its turn."""


class Conflicted(CommitError):
    """Other writers came first until the time was over."""


class Unavailable(CommitError):
    """The store did not answer in time. The command may or may not have taken effect."""


class CommandFailed(CommitError):
    """Something unforeseen; the cause is chained."""
