"""UPI: the URI that opens a payment app on a phone, made and read, and the QR code that carries it.

Source of the rules: NPCI, UPI Linking Specifications 1.6, section 2; for Google Pay on iOS,
https://developers.google.com/pay/india/api/ios/in-app-payments. What the app answers afterwards
proves nothing: the gateway is asked.
"""

import io
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

import segno

from server.ledger.money import MAX_AMOUNT_MINOR_UNITS, Money, to_major_units

GOOGLE_PAY_ANDROID_PACKAGE: Final = "com.google.android.apps.nbu.paisa.user"
"""The Android app to send a `upi://` URI to, where it shall be Google Pay and no other."""

MAX_REFERENCE_LENGTH: Final = 35
MAX_NOTE_LENGTH: Final = 50
MAX_NAME_LENGTH: Final = 99
MAX_URI_LENGTH: Final = 1024
"""In ASCII, after encoding; a QR code of it can still be read by a phone."""
MAX_SVG_LENGTH: Final = 128 * 1024

_VPA: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}@[A-Za-z][A-Za-z0-9]{1,63}")
_UPI: Final = "upi://pay?"
_GOOGLE_PAY_IOS: Final = "gpay://upi/pay?"
_URI: Final = re.compile(r"upi://pay\?[!-~]+")
_READ: Final = frozenset({"pa", "am", "cu"})
_RUPEES: Final = re.compile(r"([0-9]{1,13})(?:\.([0-9]{1,2}))?")


class InvalidIntent(Exception):
    """A payment that no URI can be made for; `field` names what to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class UpiIntent:
    """A payment that a customer is asked for."""

    payee_vpa: str
    """Who is paid: the merchant's virtual payment address, or the gateway's."""
    payee_name: str
    amount: Money
    """In INR; more than nothing."""
    reference: str
    """`tr`, which the gateway finds the payment by; 1 to 35 characters."""
    note: str = ""
    """`tn`, which the customer reads; at most 50 characters. Left out where it is empty."""

    def __post_init__(self) -> None:
        """Refuse what a payment app would refuse, or read in another way."""
        if not is_vpa(self.payee_vpa):
            raise InvalidIntent("payee_vpa", "Must be a virtual payment address.")
        _check_text("payee_name", self.payee_name, 1, MAX_NAME_LENGTH)
        _check_text("reference", self.reference, 1, MAX_REFERENCE_LENGTH)
        _check_text("note", self.note, 0, MAX_NOTE_LENGTH)
        if self.amount.currency_code != "INR":
            raise InvalidIntent("amount", "Must be in INR.")
        if not 0 < self.amount.minor_units <= MAX_AMOUNT_MINOR_UNITS:
            raise InvalidIntent("amount", "Must be more than nothing, and within bounds.")


@dataclass(frozen=True, slots=True)
class AskedPayment:
    """What a `upi://` URI asks its reader to pay, and to whom."""

    payee_vpa: str
    amount: Money


def is_vpa(text: str) -> bool:
    """Tell whether the text has the shape of a virtual payment address, such as `name@bank`."""
    return _VPA.fullmatch(text) is not None


def intent_uri(intent: UpiIntent) -> str:
    """Return the `upi://` URI of the payment, which any UPI app opens.

    The amount is in rupees, exact to the paisa. A space is `%20`: apps read `+` as itself.

    Raises:
        InvalidIntent: the URI would be longer than MAX_URI_LENGTH.
    """
    return _UPI + _query(intent)


def read_intent_uri(uri: str) -> AskedPayment:
    """Read a URI that somebody else made, as a payment app does.

    It has to name its payee, and one exact amount in INR: without one the customer could pay
    anything. Where one of them comes twice nobody knows which an app takes, and it is refused.

    Raises:
        InvalidIntent: it is no such URI, or its payee or amount is not as it should be.
    """
    _check_uri(uri)
    fields: dict[str, str] = {}
    for field in uri.removeprefix(_UPI).split("&"):
        name, _, value = field.partition("=")
        name = unquote(name).lower()
        if name in fields:
            raise InvalidIntent("uri", "Must name payee, amount and currency once.")
        if name in _READ:
            fields[name] = unquote(value)
    payee_vpa = fields.get("pa", "")
    if not is_vpa(payee_vpa):
        raise InvalidIntent("payee_vpa", "Must be a virtual payment address.")
    if fields.get("cu", "INR") != "INR":
        raise InvalidIntent("amount", "Must be in INR.")
    return AskedPayment(payee_vpa, _rupees(fields.get("am", "")))


def google_pay_ios_uri_of(intent_uri: str) -> str:
    """Return what opens Google Pay on iOS, where an app cannot be chosen otherwise.

    `intent_uri` is a `upi://` URI, made here or by a gateway; the rest of it stays as it is.
    """
    return _GOOGLE_PAY_IOS + intent_uri.removeprefix(_UPI)


def qr_svg(uri: str) -> str:
    """Draw a `upi://` URI, made here or by a gateway, as a QR code: one `svg` element, compact.

    It is black on white, with the quiet zone that ISO/IEC 18004 asks for, and scales to where it is
    put.

    Raises:
        InvalidIntent: it is no such URI, or too long.
    """
    _check_uri(uri)
    drawing = io.BytesIO()
    segno.make_qr(uri, error="m").save(
        drawing,
        kind="svg",
        light="#fff",
        omitsize=True,
        xmldecl=False,
        svgclass=None,
        lineclass=None,
        nl=False,
    )
    svg = drawing.getvalue().decode("utf-8")
    if len(svg) > MAX_SVG_LENGTH:
        raise InvalidIntent("uri", "The QR code is too large.")
    return svg


def _query(intent: UpiIntent) -> str:
    fields = {
        # Apps show and compare the address as it stands, so `@` stays.
        "pa": quote(intent.payee_vpa, safe="@"),
        "pn": quote(intent.payee_name, safe=""),
        "am": to_major_units(intent.amount),
        "cu": intent.amount.currency_code,
        "tr": quote(intent.reference, safe=""),
        "tn": quote(intent.note, safe=""),
    }
    query = "&".join(f"{name}={value}" for name, value in fields.items() if value)
    if len(_GOOGLE_PAY_IOS) + len(query) > MAX_URI_LENGTH:
        raise InvalidIntent("payee_name", "Makes the URI too long; use a shorter name.")
    return query


def _check_uri(uri: str) -> None:
    if len(uri) > MAX_URI_LENGTH or _URI.fullmatch(uri) is None:
        raise InvalidIntent("uri", f"Must be a upi:// URI of at most {MAX_URI_LENGTH} characters.")


def _rupees(text: str) -> Money:
    """Read an amount in rupees, exact to the paisa."""
    found = _RUPEES.fullmatch(text)
    if found is None:
        raise InvalidIntent("amount", "Must be in rupees, with at most two decimals.")
    minor_units = int(found[1]) * 100 + int((found[2] or "").ljust(2, "0"))
    if not 0 < minor_units <= MAX_AMOUNT_MINOR_UNITS:
        raise InvalidIntent("amount", "Must be more than nothing, and within bounds.")
    return Money("INR", minor_units)


def _check_text(field: str, text: str, min_length: int, max_length: int) -> None:
    if not min_length <= len(text) <= max_length:
        raise InvalidIntent(field, f"Must have {min_length} to {max_length} characters.")
    # Halves of characters and control characters among others.
    if not text.isprintable():
        raise InvalidIntent(field, "Must be printable.")
