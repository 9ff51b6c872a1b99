"""What can be wrong with an Apple Pay token or session. No message quotes what was sent.

ApplePayError
|-- Malformed             not a token of the documented format, or over its bounds
|-- UnsupportedVersion    another version than EC_v1, such as RSA_v1
|-- SignatureInvalid      the signature, or the digest that it is over, does not hold
|   `-- ChainInvalid      its certificates do not lead to a trusted root as Apple's do
|-- Expired               signed too long ago, or in the future: a replay, or a wrong clock
|-- WrongRecipient        encrypted to a key that is none of this merchant's
|-- CannotDecrypt         the merchant's private key is not configured, or does not open it
|-- ValidationUrlRefused  the URL for a merchant session is not one of Apple's
|-- SessionRefused        Apple understood the request for a session and refused it
`-- SessionUnavailable    Apple cannot be reached, timed out, or failed: try again
"""


class ApplePayError(Exception):
    """Base of what this package raises; its text holds no secret and no card data."""


class Malformed(ApplePayError):
    """It is not a token of the documented format."""


class UnsupportedVersion(ApplePayError):
    """It is a token of a version that is not taken here."""


class SignatureInvalid(ApplePayError):
    """It was changed, or was not signed by Apple."""


class ChainInvalid(SignatureInvalid):
    """It is signed by a certificate that is not Apple's for payments."""


class Expired(ApplePayError):
    """It was signed too long ago; ask the customer to pay again."""


class WrongRecipient(ApplePayError):
    """It is meant for another merchant, or for a key that was replaced."""


class CannotDecrypt(ApplePayError):
    """It cannot be opened here; it can still be forwarded to a gateway that can."""


class ValidationUrlRefused(ApplePayError):
    """A client named a URL that the merchant's certificate must not be shown to."""


class SessionRefused(ApplePayError):
    """Apple refused the merchant, the domain or the certificate; an operator has to look."""


class SessionUnavailable(ApplePayError):
    """There is no session now; the request may be repeated, as each session is a new one."""
