"""The detached CMS signature of a token: its certificates, its signed attributes, its signature.

Source of the rules: RFC 5652, section 5 (SignedData), and "Verify the signature" in
https://developer.apple.com/documentation/passkit/payment-token-format-reference. Nothing here is
verified; this module only reads, and takes no more freedom than Apple uses: one signer, named by
issuer and serial number, who signs attributes with ECDSA and SHA-256.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asn1crypto import cms  # type: ignore[import-untyped]  # it ships no type hints
from cryptography import x509

from gateway_adapters.apple_pay.errors import ChainInvalid, Malformed

MAX_SIGNATURE_BYTES: Final = 16 * 1024
"""Apple's signatures have about 2 KiB."""
MAX_CERTIFICATES: Final = 6
"""Apple sends the leaf and the intermediate."""

_MAX_ATTRIBUTES: Final = 16
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    RecursionError,
    x509.InvalidVersion,
)
"""What the parsers raise for bytes that are not what they should be."""


@dataclass(frozen=True, slots=True)
class CmsSignature:
    """What the signature says of itself."""

    signer: x509.Certificate = field(repr=False)
    others: tuple[x509.Certificate, ...] = field(repr=False)
    """The certificates beside the signer's, in the order that they came in."""
    message_digest: bytes
    signing_time_ms: int
    signed_attributes: bytes = field(repr=False)
    """What the signature is over: the DER encoding of the attributes as a SET OF."""
    signature: bytes = field(repr=False)


def read_cms(content: bytes) -> CmsSignature:
    """Read a detached CMS signature in BER or DER, with nothing after it.

    Raises:
        Malformed: it is something else, over its bounds, or made with other algorithms.
        ChainInvalid: the signer's certificate is not among the certificates.
    """
    if len(content) > MAX_SIGNATURE_BYTES:
        raise Malformed("`signature` is too long.")
    try:
        return _read(content)
    except _UNREADABLE:
        raise Malformed("`signature` is not a CMS signature.") from None


def _read(content: bytes) -> CmsSignature:
    info = cms.ContentInfo.load(content, strict=True)
    _require(info["content_type"].native == "signed_data", "is not CMS signed data")
    signed_data = info["content"]
    enclosed = signed_data["encap_content_info"]
    _require(enclosed["content_type"].native == "data", "is over content of an unknown type")
    _require(enclosed["content"].native is None, "is not detached")
    _require(len(signed_data["signer_infos"]) == 1, "does not have exactly one signer")
    signer_info = signed_data["signer_infos"][0]
    _require(signer_info["digest_algorithm"]["algorithm"].native == "sha256", "is not SHA-256")
    _require(
        signer_info["signature_algorithm"]["algorithm"].native == "sha256_ecdsa", "is not ECDSA"
    )
    attributes = signer_info["signed_attrs"]
    values = _single_values(attributes)
    _require(_native(values, "content_type") == "data", "has no fitting contentType")
    signer, others = _certificates(signed_data["certificates"], signer_info["sid"])
    return CmsSignature(
        signer=signer,
        others=others,
        message_digest=_octets(_native(values, "message_digest"), "messageDigest"),
        signing_time_ms=_time_ms(_native(values, "signing_time")),
        # RFC 5652, section 5.4: a separate encoding in DER, with the tag of a SET OF.
        signed_attributes=attributes.untag().dump(force=True),
        signature=_octets(signer_info["signature"].native, "signature value"),
    )


def _single_values(attributes: Any) -> dict[str, Any]:  # noqa: ANN401  # the parser is untyped
    """Return the attributes by name. RFC 5652, section 5.3: each at most once, with one value."""
    _require(0 < len(attributes) <= _MAX_ATTRIBUTES, "has no signed attributes, or too many")
    found: dict[str, Any] = {}
    for attribute in attributes:
        name = attribute["type"].native
        _require(name not in found, "has a signed attribute twice")
        found[name] = attribute["values"]
    return found


def _native(values: dict[str, Any], name: str) -> object:
    _require(name in values, f"lacks the signed attribute {name}")
    _require(len(values[name]) == 1, f"has more than one {name}")
    native: object = values[name][0].native
    return native


def _certificates(
    choices: Sequence[Any],
    signer_id: Any,  # noqa: ANN401  # the parser is untyped
) -> tuple[x509.Certificate, tuple[x509.Certificate, ...]]:
    """Return the signer's certificate, and the others."""
    _require(0 < len(choices) <= MAX_CERTIFICATES, "has no certificates, or too many")
    _require(signer_id.name == "issuer_and_serial_number", "names its signer in another way")
    signers: list[x509.Certificate] = []
    others: list[x509.Certificate] = []
    for choice in choices:
        _require(choice.name == "certificate", "has something else among its certificates")
        parsed = choice.chosen
        # Certificates may not have serial numbers like these, and what reads them warns of it.
        _require(parsed.serial_number > 0, "has a certificate with no fitting serial number")
        is_signer = (
            parsed.serial_number == signer_id.chosen["serial_number"].native
            and parsed.issuer.dump() == signer_id.chosen["issuer"].dump()
        )
        try:
            certificate = x509.load_der_x509_certificate(parsed.dump())
        except x509.InvalidVersion:
            raise ChainInvalid("A certificate is of a version that there is not.") from None
        (signers if is_signer else others).append(certificate)
    if len(signers) != 1:
        raise ChainInvalid("The signer's certificate is not among the signature's certificates.")
    return signers[0], tuple(others)


def _octets(value: object, what: str) -> bytes:
    if not isinstance(value, bytes):
        raise Malformed(f"`signature` has no readable {what}.")
    return value


def _time_ms(value: object) -> int:
    """Return UTC milliseconds; a time without a zone is none."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise Malformed("`signature` has no readable signingTime.")
    return (value - _EPOCH) // _MILLISECOND


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Malformed(f"`signature` {otherwise}.")
