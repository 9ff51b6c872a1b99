"""Apple Pay's tokens: signatures, certificates and keys of the test, and every refusal."""

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import algos, cms, core  # type: ignore[import-untyped]  # it ships no type hints
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.apple_pay import (
    ApplePayError,
    CannotDecrypt,
    ChainInvalid,
    DecryptedCard,
    Expired,
    Malformed,
    MerchantKey,
    SignatureInvalid,
    UnsupportedVersion,
    VerifiedToken,
    WrongRecipient,
    decrypt_payment_token,
    key_from_certificate,
    key_from_identifier,
    load_trust_anchors,
    verify_payment_token,
)
from gateway_adapters.apple_pay.decryption import derive_key, open_data, read_card

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors"
SIGNED_AT = datetime(2026, 7, 25, 12, 0, 0, tzinfo=UTC)
SIGNED_AT_MS = int(SIGNED_AT.timestamp()) * 1000
NOW_MS = SIGNED_AT_MS + 2_000
MERCHANT_IDENTIFIER = "merchant.com.example.wallet"
PAN, CRYPTOGRAM = "5353756319181169", "AMwBRjPWDnAgAA7Rls7mAoABFA=="
LEAF_MARK = ObjectIdentifier("1.2.840.113635.100.6.29")
INTERMEDIATE_MARK = ObjectIdentifier("1.2.840.113635.100.6.2.14")
MERCHANT_ID_MARK = ObjectIdentifier("1.2.840.113635.100.6.32")
ASN1_NULL = b"\x05\x00"

Content = dict[str, Any]
Signer = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def b64(content: bytes) -> str:
    """Write base64 as Apple does."""
    return base64.b64encode(content).decode()


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """Write a public key in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class Certificate:
    """A certificate to be, changed as a test asks."""

    name: str
    key: Signer
    mark: ObjectIdentifier | None = None
    is_authority: bool = False
    path_length: int | None = None
    has_constraints: bool = True
    can_sign_certificates: bool | None = None
    can_sign_content: bool = True
    not_before: datetime = SIGNED_AT - timedelta(days=400)
    not_after: datetime = SIGNED_AT + timedelta(days=400)
    critical: ObjectIdentifier | None = None
    serial_number: int = field(default_factory=x509.random_serial_number)

    def issued_by(
        self, issuer: "Certificate", hash_algorithm: hashes.HashAlgorithm | None = None
    ) -> x509.Certificate:
        """Return it, signed by its issuer."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer.name)]))
            .public_key(self.key.public_key())
            .serial_number(self.serial_number)
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
            .add_extension(self._key_usage(), critical=True)
        )
        if self.has_constraints:
            constraints = x509.BasicConstraints(self.is_authority, self.path_length)
            builder = builder.add_extension(constraints, critical=True)
        for oid, critical in ((self.mark, False), (self.critical, True)):
            if oid is not None:
                extension = x509.UnrecognizedExtension(oid, ASN1_NULL)
                builder = builder.add_extension(extension, critical=critical)
        signing_hash: Any = hash_algorithm or hashes.SHA256()
        return builder.sign(issuer.key, signing_hash)

    def _key_usage(self) -> x509.KeyUsage:
        may_issue = self.can_sign_certificates
        return x509.KeyUsage(
            digital_signature=self.can_sign_content,
            key_cert_sign=self.is_authority if may_issue is None else may_issue,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )


ROOT = Certificate("Test Root", new_key(), is_authority=True)
INTERMEDIATE = Certificate("Test Integration CA", new_key(), INTERMEDIATE_MARK, is_authority=True)
LEAF = Certificate("Test Broker Sign", new_key(), LEAF_MARK)
ANCHORS = (ROOT.issued_by(ROOT),)
MERCHANT_PRIVATE_KEY = new_key()
MERCHANT_KEY = key_from_identifier(
    MERCHANT_PRIVATE_KEY.public_key(), MERCHANT_IDENTIFIER, MERCHANT_PRIVATE_KEY
)


def card_content(**fields: object) -> Content:
    """Return what a token carries, changed as asked."""
    return {
        "applicationPrimaryAccountNumber": PAN,
        "applicationExpirationDate": "310930",
        "currencyCode": "356",
        "transactionAmount": 12345,
        "deviceManufacturerIdentifier": "050110030273",
        "paymentDataType": "3DSecure",
        "paymentData": {"onlinePaymentCryptogram": CRYPTOGRAM, "eciIndicator": "7"},
        **fields,
    }


@dataclass(frozen=True)
class Token:
    """A token as Apple signs it, to be changed as a test asks."""

    plaintext: bytes = json.dumps(card_content()).encode()
    application_data: bytes = b""
    transaction_id: bytes = hashlib.sha256(b"transaction").digest()
    signing_times: tuple[datetime, ...] = (SIGNED_AT,)
    leaf: Certificate = LEAF
    intermediate: Certificate = INTERMEDIATE
    root: Certificate = ROOT
    leaf_hash: hashes.HashAlgorithm | None = None
    signing_key: ec.EllipticCurvePrivateKey | None = None
    digest_algorithm: str = "sha256"
    signature_algorithm: str = "sha256_ecdsa"
    content_type: str = "data"
    enclosed: bytes | None = None
    is_reversed: bool = False
    is_unsigned: bool = False
    extra_certificates: tuple[x509.Certificate, ...] = ()
    lacks: str = ""
    has_twice: str = ""
    digest: bytes | None = None
    signers: int = 1
    with_intermediate: bool = True

    def content(self) -> Content:
        """Return the token's JSON."""
        ephemeral = new_key()
        public_key = spki(ephemeral.public_key())
        secret = ephemeral.exchange(ec.ECDH(), MERCHANT_PRIVATE_KEY.public_key())
        identifier = hashlib.sha256(MERCHANT_IDENTIFIER.encode()).digest()
        key = hashlib.sha256(
            b"\x00\x00\x00\x01" + secret + b"\x0did-aes256-GCM" + b"Apple" + identifier
        ).digest()
        data = AESGCM(key).encrypt(bytes(16), self.plaintext, None)
        digest = hashlib.sha256(
            public_key + data + self.transaction_id + self.application_data
        ).digest()
        header = {
            "ephemeralPublicKey": b64(public_key),
            "publicKeyHash": b64(hashlib.sha256(spki(MERCHANT_PRIVATE_KEY.public_key())).digest()),
            "transactionId": self.transaction_id.hex(),
        }
        if self.application_data:
            header["applicationData"] = self.application_data.hex()
        return {
            "version": "EC_v1",
            "data": b64(data),
            "signature": b64(self.signature(self.digest or digest)),
            "header": header,
        }

    def body(self) -> bytes:
        """Return the token as an app sends it."""
        return json.dumps(self.content()).encode()

    def signature(self, digest: bytes) -> bytes:
        """Return the detached CMS signature."""
        leaf = self.leaf.issued_by(self.intermediate, self.leaf_hash)
        certificates = [leaf]
        if self.with_intermediate:
            certificates.append(self.intermediate.issued_by(self.root))
        certificates.extend(self.extra_certificates)
        if self.is_reversed:
            certificates.reverse()
        signer_info = self._signer_info(leaf, self._attributes(digest))
        signed_data = {
            "version": "v1",
            "digest_algorithms": [{"algorithm": "sha256"}],
            "encap_content_info": {"content_type": self.content_type, "content": self.enclosed},
            "certificates": [
                asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
                for certificate in certificates
            ],
            "signer_infos": [signer_info] * self.signers,
        }
        info = cms.ContentInfo({"content_type": "signed_data", "content": signed_data})
        encoded: bytes = info.dump()
        return encoded

    def _attributes(self, digest: bytes) -> Any:
        times = [cms.Time({"utc_time": time}) for time in self.signing_times]
        attributes = [
            {"type": "content_type", "values": ["data"]},
            {"type": "signing_time", "values": times},
            {"type": "message_digest", "values": [digest]},
        ]
        attributes = [found for found in attributes if found["type"] != self.lacks]
        twice = [found for found in attributes if found["type"] == self.has_twice]
        return cms.CMSAttributes(attributes + twice)

    def _signer_info(self, leaf: x509.Certificate, attributes: Any) -> Any:
        key = self.signing_key or self.leaf.key
        signature = b"\x30\x06\x02\x01\x01\x02\x01\x01"
        if isinstance(key, ec.EllipticCurvePrivateKey):
            signature = key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256()))
        signer_info = {
            "version": "v1",
            "sid": cms.SignerIdentifier(
                {
                    "issuer_and_serial_number": {
                        "issuer": asn1_x509.Name.load(leaf.issuer.public_bytes()),
                        "serial_number": leaf.serial_number,
                    }
                }
            ),
            "digest_algorithm": {"algorithm": self.digest_algorithm},
            "signature_algorithm": algos.SignedDigestAlgorithm(
                {"algorithm": self.signature_algorithm}
            ),
            "signature": signature,
        }
        if not self.is_unsigned:
            signer_info["signed_attrs"] = attributes
        return cms.SignerInfo(signer_info)


TOKEN = Token()
GOOD = TOKEN.body()


def verify(
    body: bytes,
    anchors: Sequence[x509.Certificate] = ANCHORS,
    merchant_keys: Sequence[MerchantKey] = (MERCHANT_KEY,),
    now_ms: int = NOW_MS,
    **options: Any,
) -> VerifiedToken:
    """Verify under the root and the key of the test."""
    return verify_payment_token(body, anchors, merchant_keys, now_ms, **options)


def changed(change: Callable[[Content], object]) -> bytes:
    """Return the good token after a change that nobody signed."""
    content = json.loads(GOOD)
    change(content)
    return json.dumps(content).encode()


def open_content(content: object) -> DecryptedCard:
    """Send content through sealing, signing, verification and decryption."""
    return decrypt_payment_token(verify(Token(plaintext=json.dumps(content).encode()).body()))


def test_a_signed_token_is_taken() -> None:
    """A token under Apple's marks and a trusted root is verified, and says when it was signed."""
    verified = verify(GOOD)
    assert verified.transaction_id == TOKEN.transaction_id.hex()
    assert verified.signing_time_ms == SIGNED_AT_MS
    assert verified.application_data_hash == b""
    assert verified.merchant_key == MERCHANT_KEY


def test_application_data_is_signed_too() -> None:
    """The hash of the request's own data is covered, and can be compared with the request."""
    data = hashlib.sha256(b"top_1").digest()
    body = Token(application_data=data).body()
    assert verify(body).application_data_hash == data
    for forged in (None, "00" * 32):
        content = json.loads(body)
        content["header"]["applicationData"] = forged
        with pytest.raises(SignatureInvalid):
            verify(json.dumps(content).encode())


def test_the_order_of_certificates_does_not_matter() -> None:
    """Leaf and intermediate are found by what they are."""
    token = Token(is_reversed=True, extra_certificates=ANCHORS)
    assert verify(token.body()).transaction_id == TOKEN.transaction_id.hex()


@pytest.mark.parametrize("name", ["data", "ephemeralPublicKey", "transactionId"])
def test_every_flipped_bit_of_a_signed_part_is_noticed(name: str) -> None:
    """No bit of what Apple signed can be changed."""
    content = json.loads(GOOD)
    holder = content if name == "data" else content["header"]
    is_hex = name == "transactionId"
    part = bytes.fromhex(holder[name]) if is_hex else base64.b64decode(holder[name])
    for position in range(0, len(part), 3):
        forged = bytearray(part)
        forged[position] ^= 1 << position % 8
        holder[name] = forged.hex() if is_hex else b64(bytes(forged))
        # A flipped bit can also make a key of what is none.
        with pytest.raises((SignatureInvalid, Malformed)):
            verify(json.dumps(content).encode())


def test_no_flipped_bit_of_the_signature_changes_what_is_taken() -> None:
    """A changed signature is refused, unless the bit stands where nothing is read from."""
    content = json.loads(GOOD)
    signature = base64.b64decode(content["signature"])
    taken = 0
    for position in range(len(signature)):
        forged = bytearray(signature)
        forged[position] ^= 1 << position % 8
        content["signature"] = b64(bytes(forged))
        try:
            again = verify(json.dumps(content).encode())
        except (SignatureInvalid, Malformed):
            continue
        taken += 1
        assert again.replay_key == verify(GOOD).replay_key
        assert again.signing_time_ms == SIGNED_AT_MS
    # The versions and the list of digest algorithms, which say nothing that counts.
    assert taken < 24


@pytest.mark.parametrize(
    ("token", "what"),
    [
        (Token(leaf=replace(LEAF, mark=None)), "leaf without its mark"),
        (Token(leaf=replace(LEAF, mark=INTERMEDIATE_MARK)), "leaf with the other mark"),
        (Token(intermediate=replace(INTERMEDIATE, mark=None)), "intermediate without its mark"),
        (Token(intermediate=replace(INTERMEDIATE, mark=LEAF_MARK)), "intermediate marked as leaf"),
        (Token(with_intermediate=False), "no intermediate"),
        (Token(root=replace(ROOT, key=new_key())), "another root of the same name"),
        (Token(root=Certificate("Other", new_key(), is_authority=True)), "another root"),
        (
            Token(
                intermediate=replace(INTERMEDIATE, is_authority=False, can_sign_certificates=True)
            ),
            "no authority",
        ),
        (Token(intermediate=replace(INTERMEDIATE, has_constraints=False)), "no constraints"),
        (Token(intermediate=replace(INTERMEDIATE, can_sign_certificates=False)), "may not issue"),
        (Token(leaf=replace(LEAF, can_sign_content=False)), "leaf may not sign"),
        (Token(leaf_hash=hashes.SHA224()), "weak hash"),
        (Token(leaf=replace(LEAF, not_after=SIGNED_AT - timedelta(seconds=1))), "old leaf"),
        (Token(leaf=replace(LEAF, not_before=SIGNED_AT + timedelta(seconds=1))), "young leaf"),
        (
            Token(intermediate=replace(INTERMEDIATE, not_after=SIGNED_AT - timedelta(seconds=1))),
            "old intermediate",
        ),
        (Token(leaf=replace(LEAF, critical=ObjectIdentifier("1.2.3.4"))), "unknown critical"),
        (
            Token(intermediate=replace(INTERMEDIATE, critical=ObjectIdentifier("1.2.3.4"))),
            "unknown critical of the intermediate",
        ),
        (
            Token(leaf=replace(LEAF, key=ec.generate_private_key(ec.SECP384R1()))),
            "leaf on another curve",
        ),
        (Token(leaf=replace(LEAF, key=rsa.generate_private_key(65537, 2048))), "RSA leaf"),
        (
            Token(intermediate=LEAF, leaf=replace(LEAF, name="Below", key=new_key())),
            "a leaf that issues",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_certificates_other_than_apples_are_refused(token: Token, what: str) -> None:
    """Marks, dates, rights and signatures of the whole chain must be right."""
    assert what
    with pytest.raises(ChainInvalid):
        verify(token.body())


@pytest.mark.parametrize(
    "root",
    [
        replace(ROOT, not_after=SIGNED_AT - timedelta(seconds=1)),
        replace(ROOT, path_length=0),
        replace(ROOT, is_authority=False, can_sign_certificates=True),
    ],
    ids=["old", "no room below", "no authority"],
)
def test_a_trust_anchor_must_be_good_itself(root: Certificate) -> None:
    """Being configured does not make an expired root, or what is none, a root."""
    with pytest.raises(ChainInvalid):
        verify(GOOD, anchors=(root.issued_by(root),))


def test_without_trust_anchors_nothing_is_taken() -> None:
    """An empty list of roots trusts nobody."""
    with pytest.raises(ChainInvalid):
        verify(GOOD, anchors=())


def test_a_certificate_in_the_token_is_no_anchor() -> None:
    """A root that comes with the token does not vouch for itself."""
    stranger = Certificate("Stranger", new_key(), is_authority=True)
    token = Token(root=stranger, extra_certificates=(stranger.issued_by(stranger),))
    with pytest.raises(ChainInvalid):
        verify(token.body())


def test_any_anchor_may_be_the_root() -> None:
    """Two roots are trusted while one replaces the other."""
    other = Certificate("Test Root", new_key(), is_authority=True)
    assert verify(GOOD, anchors=(other.issued_by(other), *ANCHORS)).signing_time_ms == SIGNED_AT_MS


def test_a_chain_may_expire_after_it_has_signed() -> None:
    """What counts is the time of signing: the token is checked moments later."""
    token = Token(leaf=replace(LEAF, not_after=SIGNED_AT))
    assert verify(token.body()).signing_time_ms == SIGNED_AT_MS


def test_a_signature_by_another_key_is_refused() -> None:
    """Apple's certificate does not help without its key."""
    with pytest.raises(SignatureInvalid, match="signed attributes"):
        verify(Token(signing_key=new_key()).body())


def test_a_signature_over_another_digest_is_refused() -> None:
    """A good signature of another token does not fit."""
    with pytest.raises(SignatureInvalid, match="digest"):
        verify(Token(digest=hashlib.sha256(b"another").digest()).body())


@pytest.mark.parametrize(
    "token",
    [
        Token(signers=0),
        Token(signers=2),
        Token(is_unsigned=True),
        Token(lacks="content_type"),
        Token(lacks="message_digest"),
        Token(lacks="signing_time"),
        Token(has_twice="message_digest"),
        Token(has_twice="signing_time"),
        Token(signing_times=(SIGNED_AT, SIGNED_AT + timedelta(minutes=1))),
        Token(digest_algorithm="sha1"),
        Token(signature_algorithm="sha1_ecdsa"),
        Token(signature_algorithm="sha256_rsa"),
        Token(content_type="signed_data"),
        Token(enclosed=b"content"),
        Token(extra_certificates=ANCHORS * 5),
    ],
)
def test_a_signature_of_another_make_is_malformed(token: Token) -> None:
    """One signer, detached, with each signed attribute once, and with strong algorithms."""
    with pytest.raises(Malformed):
        verify(token.body())


def test_a_stranger_beside_the_signer_is_not_the_signer() -> None:
    """Where the signer's certificate is missing, no other one stands in."""
    content = json.loads(GOOD)
    info = cms.ContentInfo.load(base64.b64decode(content["signature"]))
    identifier = info["content"]["signer_infos"][0]["sid"].chosen
    identifier["serial_number"] = core.Integer(LEAF.serial_number + 1)
    content["signature"] = b64(info.dump(force=True))
    with pytest.raises(ChainInvalid):
        verify(json.dumps(content).encode())


@pytest.mark.parametrize(
    ("age_ms", "is_taken"), [(0, True), (300_000, True), (300_001, False), (86_400_000, False)]
)
def test_a_stale_token_is_expired(age_ms: int, *, is_taken: bool) -> None:
    """A token that was signed more than five minutes ago may be a replay."""
    if is_taken:
        assert verify(GOOD, now_ms=SIGNED_AT_MS + age_ms).signing_time_ms == SIGNED_AT_MS
        return
    with pytest.raises(Expired):
        verify(GOOD, now_ms=SIGNED_AT_MS + age_ms)


def test_how_old_a_token_may_be_is_a_parameter() -> None:
    """A shorter or a longer time can be asked for."""
    assert verify(GOOD, now_ms=SIGNED_AT_MS + 900_000, max_age_ms=900_000).replay_key
    with pytest.raises(Expired):
        verify(GOOD, max_age_ms=1_000)


def test_a_token_from_the_future_is_refused() -> None:
    """A minute's difference of clocks is allowed for, no more."""
    assert verify(GOOD, now_ms=SIGNED_AT_MS - 60_000).signing_time_ms == SIGNED_AT_MS
    with pytest.raises(Expired):
        verify(GOOD, now_ms=SIGNED_AT_MS - 60_001)


def test_a_token_for_another_merchant_is_refused() -> None:
    """The hash in the header must be that of a configured key; with no key none is."""
    other = key_from_identifier(new_key().public_key(), MERCHANT_IDENTIFIER)
    for keys in ((), (other,)):
        with pytest.raises(WrongRecipient):
            verify(GOOD, merchant_keys=keys)
    assert verify(GOOD, merchant_keys=(other, MERCHANT_KEY)).merchant_key is MERCHANT_KEY


def test_a_replayed_token_has_the_same_ids() -> None:
    """However it is written again, a token is recognised."""
    content = json.loads(GOOD)
    content["header"]["transactionId"] = content["header"]["transactionId"].upper()
    info = cms.ContentInfo.load(base64.b64decode(content["signature"]))
    info["content"]["certificates"] = list(reversed(info["content"]["certificates"]))
    content["signature"] = b64(info.dump())
    again = verify(json.dumps(content, indent=2).encode())
    first = verify(GOOD)
    assert (again.transaction_id, again.replay_key) == (first.transaction_id, first.replay_key)


def test_bytes_moved_between_parts_do_not_make_another_token() -> None:
    """Apple signs the parts without their lengths: moved bytes keep the signature and the key."""

    def move(content: Content) -> None:
        data = base64.b64decode(content["data"])
        header = content["header"]
        header["applicationData"] = header["transactionId"]
        header["transactionId"] = data[-32:].hex()
        content["data"] = b64(data[:-32])

    moved = verify(changed(move))
    assert moved.transaction_id != TOKEN.transaction_id.hex()
    assert moved.replay_key == verify(GOOD).replay_key
    with pytest.raises(CannotDecrypt):
        decrypt_payment_token(moved)


def test_the_replay_keys_of_two_tokens_differ() -> None:
    """The same card twice makes two tokens."""
    assert verify(Token().body()).replay_key != verify(GOOD).replay_key


@pytest.mark.parametrize("version", ["RSA_v1", "EC_v2", "", None, 1, ["EC_v1"]])
def test_another_version_is_told_so(version: object) -> None:
    """Only EC_v1 is taken."""
    with pytest.raises(UnsupportedVersion):
        verify(changed(lambda content: content.update(version=version)))


def nested_cms(levels: int) -> str:
    """Return indefinite-length sequences in one another."""
    return b64(b"\x30\x80" * levels + b"\x00\x00" * levels)


def with_signature(signature: bytes) -> bytes:
    """Return the good token with another signature."""
    return changed(lambda content: content.update(signature=b64(signature)))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("signature"),
        lambda content: content.pop("data"),
        lambda content: content.pop("header"),
        lambda content: content.update(header=[]),
        lambda content: content.update(data="*"),
        lambda content: content.update(data=""),
        lambda content: content.update(data=b64(bytes(16))),
        lambda content: content.update(data="\u00e9"),
        lambda content: content.update(signature=""),
        lambda content: content.update(signature=7),
        lambda content: content.update(signature="MIAG"),
        lambda content: content.update(
            signature=b64(base64.b64decode(content["signature"]) + b"x")
        ),
        lambda content: content.update(signature=b64(base64.b64decode(content["signature"])[:-1])),
        lambda content: content.update(signature=nested_cms(5)),
        lambda content: content.update(signature=nested_cms(4_000)),
        lambda content: content.update(signature=b64(bytes(16_385))),
        lambda content: content["header"].update(publicKeyHash=b64(bytes(31))),
        lambda content: content["header"].update(publicKeyHash=None),
        lambda content: content["header"].update(transactionId="ab"),
        lambda content: content["header"].update(transactionId="zz" * 32),
        lambda content: content["header"].update(transactionId=" a" * 32),
        lambda content: content["header"].update(transactionId=7),
        lambda content: content["header"].update(applicationData=""),
        lambda content: content["header"].update(applicationData="ab" * 31),
        lambda content: content["header"].update(ephemeralPublicKey=b64(b"no key")),
        lambda content: content["header"].update(
            ephemeralPublicKey=content["header"]["ephemeralPublicKey"] + "AAAA"
        ),
        lambda content: content["header"].update(
            ephemeralPublicKey=b64(spki(ec.generate_private_key(ec.SECP384R1()).public_key()))
        ),
    ],
)
def test_a_token_that_lacks_a_part_is_malformed(change: Callable[[Content], object]) -> None:
    """Each part is there, and is what it should be, with nothing after it."""
    with pytest.raises(Malformed):
        verify(changed(change))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        GOOD + b"x",
        b"[" * 20_000,
        b'{"version":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"version":NaN}',
        b" " * 32_768 + GOOD,
        GOOD[:-1] + b', "version": "EC_v1"}',
    ],
    ids=lambda body: str(body[:16]),
)
def test_what_is_no_token_is_malformed(body: bytes) -> None:
    """Broken, trailing, too deep, too long or ambiguous JSON is refused."""
    with pytest.raises(Malformed):
        verify(body)


def test_a_token_is_opened_with_the_merchants_key() -> None:
    """The card comes out as it went in, the amount in whole minor units."""
    card = decrypt_payment_token(verify(GOOD))
    assert (card.pan, card.cryptogram, card.eci_indicator) == (PAN, CRYPTOGRAM, "7")
    assert (card.currency_number, card.amount_minor_units) == ("356", 12345)
    assert (card.expiration_date, card.payment_data_type) == ("310930", "3DSecure")


def test_nothing_printed_holds_card_data() -> None:
    """Tokens, cards and errors can be logged."""
    verified = verify(GOOD)
    with pytest.raises(Malformed) as raised:
        open_content(card_content(currencyCode=PAN))
    shown = f"{verified!r} {decrypt_payment_token(verified)!r} {raised.value!r}"
    for secret in (PAN, CRYPTOGRAM, "310930", repr(verified.data)):
        assert secret not in shown


def test_without_the_private_key_a_token_stays_closed() -> None:
    """Where a gateway decrypts, the token is verified and not opened."""
    key = key_from_identifier(MERCHANT_PRIVATE_KEY.public_key(), MERCHANT_IDENTIFIER)
    with pytest.raises(CannotDecrypt, match="not configured"):
        decrypt_payment_token(verify(GOOD, merchant_keys=(key,)))


def test_another_merchant_identifier_does_not_open_it() -> None:
    """The identifier is part of what the key is derived from."""
    key = key_from_identifier(
        MERCHANT_PRIVATE_KEY.public_key(), "merchant.com.other", MERCHANT_PRIVATE_KEY
    )
    with pytest.raises(CannotDecrypt):
        decrypt_payment_token(verify(GOOD, merchant_keys=(key,)))


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        card_content(paymentData=None),
        card_content(paymentData={}),
        card_content(paymentData={"onlinePaymentCryptogram": 7}),
        card_content(paymentData={"onlinePaymentCryptogram": "x" * 513}),
        card_content(transactionAmount=123.0),
        card_content(transactionAmount="12345"),
        card_content(transactionAmount=True),
        card_content(transactionAmount=-1),
        card_content(transactionAmount=10**15),
        card_content(transactionAmount=None),
        card_content(currencyCode=356),
        card_content(currencyCode="INR"),
        card_content(applicationPrimaryAccountNumber="5353"),
        card_content(applicationPrimaryAccountNumber=PAN + "\n"),
        card_content(applicationExpirationDate="311330"),
        card_content(applicationExpirationDate=None),
    ],
)
def test_an_opened_token_that_is_no_card_is_malformed(content: object) -> None:
    """Encryption does not make a card of what is none; least of all the amount."""
    with pytest.raises(Malformed):
        open_content(content)


def merchant_certificate(value: bytes | None) -> x509.Certificate:
    """Return a payment processing certificate with the merchant's hash as given."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Merchant")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "WWDR")]))
        .public_key(MERCHANT_PRIVATE_KEY.public_key())
        .serial_number(1)
        .not_valid_before(SIGNED_AT)
        .not_valid_after(SIGNED_AT + timedelta(days=1))
    )
    if value is not None:
        extension = x509.UnrecognizedExtension(MERCHANT_ID_MARK, value)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(MERCHANT_PRIVATE_KEY, hashes.SHA256())


def test_a_merchants_certificate_tells_the_key() -> None:
    """The certificate holds the hash of the identifier, so that both ways give the same key."""
    value = hashlib.sha256(MERCHANT_IDENTIFIER.encode()).hexdigest().upper().encode()
    certificate = merchant_certificate(b"\x0c\x40" + value)
    assert key_from_certificate(certificate, MERCHANT_PRIVATE_KEY) == MERCHANT_KEY


@pytest.mark.parametrize(
    "value", [None, b"", b"\x0c\x40" + b"z" * 64, b"\x0c\x3f" + b"a" * 63, b"\x04\x40" + b"a" * 64]
)
def test_another_certificate_is_no_merchants(value: bytes | None) -> None:
    """A certificate without the hash is refused when it is configured."""
    with pytest.raises(ValueError, match="certificate"):
        key_from_certificate(merchant_certificate(value))


def test_keys_that_do_not_fit_are_refused_at_start() -> None:
    """A key of another pair, on another curve, or a blank identifier does not come into use."""
    public_key = MERCHANT_PRIVATE_KEY.public_key()
    with pytest.raises(ValueError, match="belong"):
        key_from_identifier(public_key, MERCHANT_IDENTIFIER, new_key())
    with pytest.raises(ValueError, match="P-256"):
        key_from_identifier(
            ec.generate_private_key(ec.SECP384R1()).public_key(), MERCHANT_IDENTIFIER
        )
    with pytest.raises(ValueError, match="blank"):
        key_from_identifier(public_key, "")


def test_trust_anchors_are_read_from_pem() -> None:
    """A file of one or more certificates gives the roots; anything else none."""
    pem = ANCHORS[0].public_bytes(Encoding.PEM)
    assert load_trust_anchors(pem) == ANCHORS
    for wrong, message in ((b"", "PEM"), (b"no PEM", "PEM"), (pem * 9, "more than")):
        with pytest.raises(ValueError, match=message):
            load_trust_anchors(wrong)


def refused_or_taken(call: Callable[[], object]) -> None:
    """Let pass what is taken, and what is refused as documented; no other error."""
    with contextlib.suppress(ApplePayError):
        call()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(body: bytes) -> None:
    """Whatever comes, as a token or as its signature, the error is a typed one."""
    refused_or_taken(lambda: verify(body))
    refused_or_taken(lambda: verify(with_signature(body)))
    refused_or_taken(lambda: read_card(body))


@given(st.data())
def test_a_signature_with_random_bytes_raises_nothing_else(data: st.DataObject) -> None:
    """Whatever stands anywhere in the signature, the error is a typed one."""
    signature = bytearray(base64.b64decode(json.loads(GOOD)["signature"]))
    for position in data.draw(st.lists(st.integers(0, len(signature) - 1), max_size=4)):
        signature[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 8))
    refused_or_taken(lambda: verify(with_signature(bytes(signature[: len(signature) - cut]))))


@given(st.data())
def test_a_good_token_with_a_random_part_raises_nothing_else(data: st.DataObject) -> None:
    """Whatever stands in one part of a token, the error is a typed one."""
    content = json.loads(GOOD)
    part = data.draw(st.sampled_from([*content, *content["header"], "applicationData"]))
    holder = content if part in content else content["header"]
    holder[part] = data.draw(JSON)
    refused_or_taken(lambda: verify(json.dumps(content).encode()))


@given(st.sampled_from([*card_content()]), JSON)
def test_a_random_card_raises_nothing_else(part: str, value: object) -> None:
    """Whatever was encrypted, the error is a typed one."""
    refused_or_taken(lambda: read_card(json.dumps(card_content(**{part: value})).encode()))


def test_the_published_token_holds() -> None:
    """A real token of Apple's is verified under Apple's root, at the time of its signing."""
    path = VECTORS / "applepay.json"
    if not path.exists():
        pytest.skip(f"The published vectors are not here: {path} is absent.")
    found = json.loads(path.read_bytes())
    anchors = load_trust_anchors(found["root_ca_pem"].encode())
    assert found["cases"]
    for case in found["cases"]:
        certificate = x509.load_pem_x509_certificate(case["payment_processing_cert_pem"].encode())
        key = key_from_certificate(certificate)
        assert key.merchant_id_hash.hex() == case["merchant_id_sha256"]
        signed_at = datetime.fromisoformat(case["signing_time"])
        signed_at_ms = int(signed_at.timestamp()) * 1000
        body = json.dumps(case["payment_data"]).encode()
        verified = verify(body, anchors, (key,), signed_at_ms)
        assert verified.transaction_id == case["payment_data"]["header"]["transactionId"]
        assert verified.signing_time_ms == signed_at_ms
        with pytest.raises(ChainInvalid):
            verify(body, ANCHORS, (key,), signed_at_ms)
        with pytest.raises(Expired):
            verify(body, anchors, (key,), NOW_MS)
        symmetric_key = base64.b64decode(case["symmetric_key_b64"])
        shared_secret = base64.b64decode(case["shared_secret_b64"])
        assert derive_key(shared_secret, key.merchant_id_hash) == symmetric_key
        card = read_card(open_data(verified.data, symmetric_key))
        expected = case["expected_plaintext"]
        assert card.pan == expected["applicationPrimaryAccountNumber"]
        assert card.amount_minor_units == expected["transactionAmount"]
