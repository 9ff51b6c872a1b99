"""The certificates behind a token's signature: leaf, intermediate, root, each marked and in date.

Source of the rules: "Verify the signature" in
https://developer.apple.com/documentation/passkit/payment-token-format-reference for the marks and
the root, and RFC 5280, sections 4.2 and 6.1, for the chain. The path has always three certificates,
so it is checked step by step. Revocation is not asked for: that would be a call for each token.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from gateway_adapters.apple_pay.cms import CmsSignature
from gateway_adapters.apple_pay.errors import ChainInvalid

LEAF_MARK: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.29")
"""The extension that Apple's certificates for signing payment tokens carry."""
INTERMEDIATE_MARK: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.2.14")
"""The extension that Apple's intermediate for application integration carries."""

MAX_TRUST_ANCHORS: Final = 8
"""Apple Root CA - G3, and room for its successor."""

_UNDERSTOOD: Final = frozenset(
    {
        x509.BasicConstraints.oid,
        x509.KeyUsage.oid,
        LEAF_MARK,
        INTERMEDIATE_MARK,
    }
)
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def load_trust_anchors(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read the roots to trust from PEM, such as that of Apple Root CA - G3.

    Source: https://www.apple.com/certificateauthority/.

    Raises:
        ValueError: there are none, too many, or something else.
    """
    anchors = tuple(x509.load_pem_x509_certificates(pem))
    if len(anchors) > MAX_TRUST_ANCHORS:
        raise ValueError(f"There are more than {MAX_TRUST_ANCHORS} trust anchors.")
    return anchors


def check_chain(
    signature: CmsSignature, trust_anchors: Sequence[x509.Certificate]
) -> ec.EllipticCurvePublicKey:
    """Return the signer's key, once its certificate is Apple's for payments.

    All three certificates must have been valid at the signature's own time, which the caller
    bounds. The order in which they came does not matter.

    Raises:
        ChainInvalid.
    """
    try:
        signed_at = _EPOCH + timedelta(milliseconds=signature.signing_time_ms)
        return _check(signature, trust_anchors, signed_at)
    except (*_UNREADABLE, OverflowError):
        raise ChainInvalid("A certificate of the signature cannot be read.") from None


def _check(
    signature: CmsSignature, trust_anchors: Sequence[x509.Certificate], signed_at: datetime
) -> ec.EllipticCurvePublicKey:
    leaf = signature.signer
    intermediate, anchor = _find_issuers(leaf, signature.others, trust_anchors)
    # From here on all three are what a trusted root has vouched for.
    for certificate in (leaf, intermediate, anchor):
        _check_date(certificate, signed_at)
        _check_extensions(certificate)
    if not _may_issue(anchor, authorities_below=1) or not _may_issue(intermediate, 0):
        raise ChainInvalid("A certificate was issued by one that is no authority.")
    if not _has(intermediate, INTERMEDIATE_MARK):
        raise ChainInvalid("The intermediate is not marked as Apple's.")
    if not _has(leaf, LEAF_MARK):
        raise ChainInvalid("The signer's certificate is not marked as Apple's for payments.")
    if not _may_sign_content(leaf):
        raise ChainInvalid("The signer's certificate is not for signatures.")
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ChainInvalid("The signer's key is not a P-256 key.")
    return key


def _find_issuers(
    leaf: x509.Certificate,
    others: Iterable[x509.Certificate],
    trust_anchors: Sequence[x509.Certificate],
) -> tuple[x509.Certificate, x509.Certificate]:
    """Return the intermediate and the root that lead to the leaf, by their signatures.

    From the root downwards, so that no signature is checked with a key that nobody vouched for.
    """
    for intermediate in others:
        for anchor in trust_anchors:
            if _is_issued_by(intermediate, anchor) and _is_issued_by(leaf, intermediate):
                return intermediate, anchor
    raise ChainInvalid("The certificates do not lead to a trusted root.")


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *_UNREADABLE):
        return False
    return isinstance(certificate.signature_hash_algorithm, _HASHES)


def _may_issue(certificate: x509.Certificate, authorities_below: int) -> bool:
    """Tell whether it is an authority's, with room for so many authorities below it."""
    try:
        limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    has_room = limits.path_length is None or limits.path_length >= authorities_below
    usage = _key_usage(certificate)
    return limits.ca and has_room and (usage is None or usage.key_cert_sign)


def _may_sign_content(certificate: x509.Certificate) -> bool:
    usage = _key_usage(certificate)
    return usage is None or usage.digital_signature


def _key_usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None


def _has(certificate: x509.Certificate, mark: x509.ObjectIdentifier) -> bool:
    return any(extension.oid == mark for extension in certificate.extensions)


def _check_date(certificate: x509.Certificate, signed_at: datetime) -> None:
    if not certificate.not_valid_before_utc <= signed_at <= certificate.not_valid_after_utc:
        raise ChainInvalid("A certificate was not valid when the token was signed.")


def _check_extensions(certificate: x509.Certificate) -> None:
    """Refuse what is critical and not understood, as RFC 5280, section 4.2, asks."""
    if any(found.critical and found.oid not in _UNDERSTOOD for found in certificate.extensions):
        raise ChainInvalid("A certificate has a critical extension that is not known here.")
