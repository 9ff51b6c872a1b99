"""What can be expected to go wrong."""


class ToldInWords(Exception):
    """Base of the errors whose text says what is wrong, and what to do, to whoever runs a command.

    They end it with status 2. Anything else is a defect, and shows where it happened.
    """

    def told(self) -> str:
        """Return the text."""
        return str(self)
