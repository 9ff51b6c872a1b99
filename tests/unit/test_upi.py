"""UPI: URIs that payment apps open, the addresses in them, and the QR codes that carry them."""

import contextlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.upi import (
    MAX_SVG_LENGTH,
    MAX_URI_LENGTH,
    AskedPayment,
    InvalidIntent,
    UpiIntent,
    google_pay_ios_uri_of,
    intent_uri,
    is_vpa,
    qr_svg,
    read_intent_uri,
)
from server.ledger.money import MAX_AMOUNT_MINOR_UNITS, Money

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors"
TOPUP_ID = "top_01JD8Z6Q7M0123456789ABCDEF"


def intent(**fields: Any) -> UpiIntent:
    """Return a payment, changed as asked."""
    return UpiIntent(
        **{
            "payee_vpa": "shop@okicici",
            "payee_name": "Tea & Co",
            "amount": Money("INR", 12305),
            "reference": TOPUP_ID,
            "note": "Top-up 50% off",
            **fields,
        }
    )


def vectors() -> dict[str, Any]:
    """Return published samples, or skip where they are not at hand."""
    path = VECTORS / "upi.json"
    if not path.exists():
        pytest.skip(f"The published vectors are not here: {path} is absent.")
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def test_a_uri_has_all_that_a_payment_app_needs() -> None:
    """Payee, name, exact amount, currency, reference and note, percent-encoded."""
    assert intent_uri(intent()) == (
        "upi://pay?pa=shop@okicici&pn=Tea%20%26%20Co&am=123.05&cu=INR"
        f"&tr={TOPUP_ID}&tn=Top-up%2050%25%20off"
    )


def test_google_pay_on_ios_has_a_scheme_of_its_own() -> None:
    """The same payment under Google Pay's scheme opens no other app."""
    made = intent()
    assert google_pay_ios_uri_of(intent_uri(made)) == intent_uri(made).replace(
        "upi://pay?", "gpay://upi/pay?"
    )


@pytest.mark.parametrize(
    ("minor_units", "expected"),
    [
        (1, "0.01"),
        (99, "0.99"),
        (100, "1.00"),
        (835, "8.35"),
        (100000, "1000.00"),
        (MAX_AMOUNT_MINOR_UNITS, "1000000000000.00"),
    ],
)
def test_amounts_are_exact_rupees(minor_units: int, expected: str) -> None:
    """Paise become rupees with two decimals, without rounding and without an exponent."""
    assert f"&am={expected}&" in intent_uri(intent(amount=Money("INR", minor_units)))


def test_an_empty_note_is_left_out() -> None:
    """There is no empty `tn`."""
    assert "tn" not in parse_qs(urlsplit(intent_uri(intent(note=""))).query, keep_blank_values=True)


@pytest.mark.parametrize("field", ["payee_name", "reference", "note"])
@pytest.mark.parametrize("text", ["a b+c", "x&am=1.00", "#?/=%", "caf\u00e9", "\u091a\u093e\u092f"])
def test_no_text_can_add_to_the_uri(field: str, text: str) -> None:
    """Texts come back as they were; they change no other field, and spaces are never `+`."""
    uri = intent_uri(intent(**{field: text}))
    assert uri.isascii()
    assert "+" not in uri
    found = parse_qs(urlsplit(uri).query, strict_parsing=True)
    assert set(found) == {"pa", "pn", "am", "cu", "tr", "tn"}
    assert found[{"payee_name": "pn", "reference": "tr", "note": "tn"}[field]] == [text]
    assert found["am"] == ["123.05"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("payee_vpa", "shop"),
        ("payee_vpa", "shop@ok&am=1"),
        ("payee_name", ""),
        ("payee_name", "x" * 100),
        ("payee_name", "a\nb"),
        ("payee_name", "\ud800"),
        ("reference", ""),
        ("reference", "x" * 36),
        ("reference", "a\x00"),
        ("note", "x" * 51),
        ("note", "a\tb"),
        ("amount", Money("INR", 0)),
        ("amount", Money("INR", -1)),
        ("amount", Money("INR", MAX_AMOUNT_MINOR_UNITS + 1)),
        ("amount", Money("USD", 100)),
        ("amount", Money("JPY", 100)),
    ],
)
def test_what_a_payment_app_would_refuse_is_refused(field: str, value: object) -> None:
    """The error names the field, and quotes nothing."""
    with pytest.raises(InvalidIntent) as raised:
        intent(**{field: value})
    assert raised.value.field == field
    assert str(value) not in str(raised.value) or not str(value)


def test_texts_of_full_length_are_kept() -> None:
    """The caps are 35 for the reference, 50 for the note."""
    uri = intent_uri(intent(reference="r" * 35, note="n" * 50))
    assert f"&tr={'r' * 35}&tn={'n' * 50}" in uri


def test_a_uri_is_bounded_after_encoding() -> None:
    """A name of many bytes cannot make a URI that no QR code holds."""
    with pytest.raises(InvalidIntent):
        intent_uri(intent(payee_name="\U0001f375" * 99))


@pytest.mark.parametrize(
    "vpa",
    ["a1@ab", "name@okhdfcbank", "a.b_c-d@upi", "9876543210@ybl", "a" * 255 + "@" + "b" * 64],
)
def test_addresses_are_recognised(vpa: str) -> None:
    """A VPA is a name, `@` and the handle of a bank."""
    assert is_vpa(vpa)


@pytest.mark.parametrize(
    "vpa",
    [
        "",
        "@upi",
        "a@upi",
        "name@",
        "name@u",
        "name@1upi",
        "na me@upi",
        ".name@upi",
        "name@up.i",
        "name@upi\n",
        "name@@upi",
        "n\u00e4me@upi",
        "\u0661\u0662@upi",
        "a" * 256 + "@upi",
        "name@" + "b" * 65,
    ],
)
def test_what_is_no_address_is_told(vpa: str) -> None:
    """Anything else is none, down to a line's end."""
    assert not is_vpa(vpa)


def test_a_qr_code_is_one_svg_element() -> None:
    """The drawing can be put into a page as it is: no script, no reference to elsewhere."""
    svg = qr_svg(intent_uri(intent()))
    root = ET.fromstring(svg)  # noqa: S314  # it was made a line before
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {child.tag for child in root} == {"{http://www.w3.org/2000/svg}path"}
    assert "viewBox" in root.attrib


def test_another_payment_is_another_qr_code() -> None:
    """The URI is what is drawn."""
    made = qr_svg(intent_uri(intent()))
    assert made == qr_svg(intent_uri(intent()))
    assert made != qr_svg(intent_uri(intent(amount=Money("INR", 12306))))


def test_the_largest_qr_code_is_bounded() -> None:
    """A URI of full length makes a drawing within bounds; a longer one makes none."""
    uri = "upi://pay?tn=" + "aZ9%" * 300
    assert len(qr_svg(uri[:MAX_URI_LENGTH])) < MAX_SVG_LENGTH // 4
    with pytest.raises(InvalidIntent):
        qr_svg(uri[: MAX_URI_LENGTH + 1])


@pytest.mark.parametrize(
    "uri",
    ["", "upi://pay?", "https://example.com/?upi://pay?", "upi://pay?a b", "upi://pay?\u00e9"],
)
def test_only_upi_uris_are_drawn(uri: str) -> None:
    """A QR code made here leads to a payment and nowhere else."""
    with pytest.raises(InvalidIntent):
        qr_svg(uri)


@pytest.mark.parametrize("minor_units", [1, 99, 100, 835, 100000, MAX_AMOUNT_MINOR_UNITS])
def test_what_is_made_is_read_again(minor_units: int) -> None:
    """Payee and amount come back as they were, to the paisa."""
    amount = Money("INR", minor_units)
    assert read_intent_uri(intent_uri(intent(amount=amount))) == AskedPayment(
        "shop@okicici", amount
    )


@pytest.mark.parametrize(
    ("query", "minor_units"),
    [
        ("pa=shop@upi&am=3", 300),
        ("am=3.5&pa=shop@upi&cu=INR", 350),
        ("pa=shop%40upi&am=0.01&mc=5411&pn=a%26am%3D7", 1),
        ("PA=shop@upi&Am=12.30&tn=am=7&am2=7", 1230),
    ],
)
def test_a_gateways_uri_is_read_as_an_app_reads_it(query: str, minor_units: int) -> None:
    """Rupees with or without decimals, encoded or not, in any order, with whatever else."""
    asked = read_intent_uri(f"upi://pay?{query}")
    assert asked == AskedPayment("shop@upi", Money("INR", minor_units))


@pytest.mark.parametrize(
    ("uri", "field"),
    [
        ("", "uri"),
        ("https://example.com/?pa=shop@upi&am=1", "uri"),
        ("UPI://pay?pa=shop@upi&am=1", "uri"),
        ("upi://mandate?pa=shop@upi&am=1", "uri"),
        ("upi://pay?pa=shop@upi&am=1&tn=a b", "uri"),
        ("upi://pay?pa=shop@upi&am=1&tn=" + "a" * MAX_URI_LENGTH, "uri"),
        ("upi://pay?pa=shop@upi&am=1&am=2", "uri"),
        ("upi://pay?pa=shop@upi&am=1&AM=2", "uri"),
        ("upi://pay?pa=shop@upi&pa=thief@upi&am=1", "uri"),
        ("upi://pay?pa=shop@upi&am=1&%70a=thief@upi", "uri"),
        ("upi://pay?am=1", "payee_vpa"),
        ("upi://pay?pa=shop&am=1", "payee_vpa"),
        ("upi://pay?pa=shop@upi%0a&am=1", "payee_vpa"),
        ("upi://pay?pa=shop@upi", "amount"),
        ("upi://pay?pa=shop@upi&am=", "amount"),
        ("upi://pay?pa=shop@upi&am=0", "amount"),
        ("upi://pay?pa=shop@upi&am=0.00", "amount"),
        ("upi://pay?pa=shop@upi&am=-1", "amount"),
        ("upi://pay?pa=shop@upi&am=1.005", "amount"),
        ("upi://pay?pa=shop@upi&am=1.", "amount"),
        ("upi://pay?pa=shop@upi&am=.5", "amount"),
        ("upi://pay?pa=shop@upi&am=1,000", "amount"),
        ("upi://pay?pa=shop@upi&am=1e3", "amount"),
        ("upi://pay?pa=shop@upi&am=%D9%A1", "amount"),
        ("upi://pay?pa=shop@upi&am=9999999999999", "amount"),
        ("upi://pay?pa=shop@upi&am=1#x", "amount"),
        ("upi://pay?pa=shop@upi&am=1&cu=USD", "amount"),
        ("upi://pay?pa=shop@upi&am=1&cu=", "amount"),
    ],
)
def test_a_uri_that_asks_for_no_exact_payment_is_not_read(uri: str, field: str) -> None:
    """Another scheme, no payee, no amount or two of them: the error names what is wrong."""
    with pytest.raises(InvalidIntent) as raised:
        read_intent_uri(uri)
    assert raised.value.field == field


@given(st.text(max_size=400))
def test_any_text_makes_a_uri_or_a_typed_error(text: str) -> None:
    """Whatever stands in the fields, the URI is bounded ASCII or there is none."""
    is_vpa(text)
    with contextlib.suppress(InvalidIntent):
        qr_svg(text)
    with contextlib.suppress(InvalidIntent):
        read_intent_uri(f"upi://pay?{text}")
    for field in ("payee_vpa", "payee_name", "reference", "note"):
        with contextlib.suppress(InvalidIntent):
            uri = intent_uri(intent(**{field: text}))
            assert uri.isascii()
            assert len(uri) <= MAX_URI_LENGTH


def test_the_published_addresses_are_recognised() -> None:
    """Addresses of the official samples are addresses."""
    cases = vectors()["vpa_cases"]
    assert cases
    for case in cases:
        assert is_vpa(case["vpa"]) is case["valid"]


def test_the_published_uris_are_drawn_and_read() -> None:
    """A gateway's own URI can be drawn and read as it came."""
    cases = vectors()["cases"]
    assert cases
    for case in cases:
        assert qr_svg(case["uri"]).startswith("<svg")
        assert f"am={read_intent_uri(case['uri']).amount.minor_units // 100}&" in case["uri"]
