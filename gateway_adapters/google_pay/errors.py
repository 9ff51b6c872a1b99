"""What can be wrong with a message from Google. No message here quotes what was sent.

    GooglePayError
    |-- Malformed            not a message of the documented format, or over its bounds
    |-- UnsupportedVersion   another protocolVersion than the one expected
    |-- SignatureInvalid     a signature does not hold
    |   `-- KeyUnknown       no known and unexpired root key signed it: newer keys may help
    |-- Expired              the intermediate key or the message is past its expiration
    |-- WrongRecipient       signed for the gateway, and yet for another merchant of it
    |-- CannotDecrypt        none of the merchant's keys opens it
    `-- KeysUnavailable      Google's root keys cannot be fetched, and none are at hand: try later

The recipient is part of what Google signs and stands nowhere in a message. So a message for another
recipient cannot be told from a changed one: both are SignatureInvalid.
"""


class GooglePayError(Exception):
    """Base of what this package raises for a message; its text holds no secret and no card data."""


class Malformed(GooglePayError):
    """It is not a message of the documented format."""


class UnsupportedVersion(GooglePayError):
    """Its protocolVersion is not the one that is expected here."""


class SignatureInvalid(GooglePayError):
    """It was changed, was not signed by Google, or is meant for somebody else."""


class KeyUnknown(SignatureInvalid):
    """No known, unexpired root key signed its intermediate key; there may be newer root keys."""


class Expired(GooglePayError):
    """It was good once; ask the customer to pay again."""


class WrongRecipient(GooglePayError):
    """It is signed for this gateway, and meant for another merchant."""


class CannotDecrypt(GooglePayError):
    """It was encrypted to a key that is not configured here, or was not encrypted as documented."""


class KeysUnavailable(GooglePayError):
    """There are no root keys to check with; nothing is said about the message."""
