"""Google Pay's signed messages: tokens and callbacks, with keys of the test and every refusal."""

import base64
import contextlib
import hashlib
import hmac
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.google_pay import (
    AuthMethod,
    CannotDecrypt,
    DecryptedCard,
    Expired,
    GooglePayError,
    KeyUnknown,
    Malformed,
    PassCallback,
    RootKey,
    SignatureInvalid,
    UnsupportedVersion,
    VerifiedToken,
    WrongRecipient,
    decrypt_payment_token,
    read_root_keys,
    verify_pass_callback,
    verify_payment_token,
)

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors"
NOW_MS = 1_785_000_000_000
LATER_MS = NOW_MS + 3_600_000
MERCHANT, GATEWAY = "merchant:12345678901234567890", "gateway:examplegateway"
ISSUER_ID = "1296031581681466393"
PAN, CRYPTOGRAM = "4111111111111111", "AgAAAAAABk4DWZ4C28yUQAAAAAA="
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

Content = dict[str, Any]


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


ROOT, OTHER_ROOT, INTERMEDIATE, RECIPIENT = new_key(), new_key(), new_key(), new_key()


def b64(content: bytes) -> str:
    """Write base64 as Google does."""
    return base64.b64encode(content).decode()


def key_value(key: ec.EllipticCurvePrivateKey) -> str:
    """Write a public key as `keyValue` has it."""
    return b64(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def lv(*values: str) -> bytes:
    """Write each value after its length, as Google signs it."""
    return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)


def sign(key: ec.EllipticCurvePrivateKey, signed: bytes) -> str:
    """Sign as Google does."""
    return b64(key.sign(signed, ec.ECDSA(hashes.SHA256())))


def root_key(
    key: ec.EllipticCurvePrivateKey = ROOT, version: str = "ECv2", expires_ms: int = LATER_MS
) -> RootKey:
    """Return a root key to trust."""
    return RootKey(key.public_key(), version, expires_ms)


@dataclass(frozen=True)
class Message:
    """A message as Google signs it, to be changed as a test asks."""

    text: str
    sender: str = "Google"
    recipient: str = MERCHANT
    version: str = "ECv2"
    root: ec.EllipticCurvePrivateKey = ROOT
    intermediate: ec.EllipticCurvePrivateKey = INTERMEDIATE
    intermediate_fields: Content = field(default_factory=dict)

    def envelope(self) -> Content:
        """Return the signed envelope."""
        signed_key = json.dumps(
            {
                "keyValue": key_value(self.intermediate),
                "keyExpiration": str(LATER_MS),
                **self.intermediate_fields,
            }
        )
        return {
            "protocolVersion": self.version,
            "signature": sign(
                self.intermediate, lv(self.sender, self.recipient, self.version, self.text)
            ),
            "intermediateSigningKey": {
                "signedKey": signed_key,
                "signatures": [sign(self.root, lv(self.sender, self.version, signed_key))],
            },
            "signedMessage": self.text,
        }

    def body(self) -> bytes:
        """Return the envelope as it is sent."""
        return json.dumps(self.envelope()).encode()


def card_content(**fields: object) -> Content:
    """Return what a token carries, changed as asked."""
    return {
        "messageExpiration": str(LATER_MS),
        "messageId": "AH2EjtfkY514K5lmPF4NOP9lMR5tP",
        "paymentMethod": "CARD",
        "paymentMethodDetails": card_details(),
        **fields,
    }


def card_details(**fields: object) -> Content:
    """Return a tokenized card, changed as asked."""
    return {
        "pan": PAN,
        "expirationMonth": 12,
        "expirationYear": 2031,
        "authMethod": "CRYPTOGRAM_3DS",
        "cryptogram": CRYPTOGRAM,
        "eciIndicator": "05",
        **fields,
    }


def sealed(plaintext: bytes, recipient: ec.EllipticCurvePrivateKey = RECIPIENT) -> Content:
    """Encrypt as Google does."""
    ephemeral = new_key()
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    secret = ephemeral.exchange(ec.ECDH(), recipient.public_key())
    keys = HKDF(hashes.SHA256(), 64, bytes(32), b"Google").derive(point + secret)
    encryptor = Cipher(algorithms.AES(keys[:32]), modes.CTR(bytes(16))).encryptor()
    ciphertext = encryptor.update(plaintext) + encryptor.finalize()
    return {
        "encryptedMessage": b64(ciphertext),
        "ephemeralPublicKey": b64(point),
        "tag": b64(hmac.digest(keys[32:], ciphertext, hashlib.sha256)),
    }


def token_for(content: object) -> Message:
    """Return a payment token that carries the content."""
    return Message(json.dumps(sealed(json.dumps(content).encode())))


def verify(
    body: bytes,
    root_keys: Sequence[RootKey] = (root_key(),),
    recipients: Sequence[str] = (MERCHANT,),
    now_ms: int = NOW_MS,
) -> VerifiedToken:
    """Verify under the keys of the test."""
    return verify_payment_token(body, root_keys, recipients, now_ms)


def open_content(content: object, **options: Any) -> DecryptedCard:
    """Send content through sealing, signing, verification and decryption."""
    return decrypt_payment_token(
        verify(token_for(content).body()), (RECIPIENT,), now_ms=NOW_MS, **options
    )


TOKEN = token_for(card_content())
GOOD = TOKEN.body()


def changed(change: Callable[[Content], object], message: Message = TOKEN) -> bytes:
    """Return the envelope after a change that nobody signed."""
    envelope = message.envelope()
    change(envelope)
    return json.dumps(envelope).encode()


def test_a_signed_token_is_taken_for_its_recipient() -> None:
    """A token under a good root, a good intermediate and the right recipient is verified."""
    verified = verify(GOOD)
    assert verified.recipient == MERCHANT
    assert verified.replay_key.startswith("sha256:")


@pytest.mark.parametrize("recipient", [MERCHANT, GATEWAY])
def test_both_kinds_of_recipients_are_taken(recipient: str) -> None:
    """A merchant's own token and a gateway's are told apart by whom they are signed for."""
    body = replace(TOKEN, recipient=recipient).body()
    assert verify(body, recipients=(MERCHANT, GATEWAY)).recipient == recipient


@pytest.mark.parametrize(
    "recipients",
    [(GATEWAY,), (MERCHANT + "1",), (MERCHANT[:-1],), (MERCHANT.removeprefix("merchant:"),)],
)
def test_a_token_for_another_recipient_is_refused(recipients: tuple[str, ...]) -> None:
    """A token that was made for somebody else does not count here."""
    with pytest.raises(SignatureInvalid, match="another recipient"):
        verify(GOOD, recipients=recipients)


@pytest.mark.parametrize("recipients", [(), ("",), (MERCHANT, ""), (MERCHANT,) * 9, MERCHANT])
def test_recipients_that_cannot_be_meant_are_a_mistake(recipients: Sequence[str]) -> None:
    """No, a blank, too many recipients or a bare text are a configuration that must not run."""
    with pytest.raises(ValueError, match="recipient"):
        verify(GOOD, recipients=recipients)


@pytest.mark.parametrize("name", ["signedMessage", "signedKey"])
def test_every_flipped_bit_of_a_signed_text_breaks_its_signature(name: str) -> None:
    """No bit of the message, nor of the intermediate key, can be changed."""
    envelope = TOKEN.envelope()
    holder = envelope if name == "signedMessage" else envelope["intermediateSigningKey"]
    text = holder[name]
    for position, character in enumerate(text):
        for bit in range(7):
            flipped = chr(ord(character) ^ 1 << bit)
            holder[name] = text[:position] + flipped + text[position + 1 :]
            with pytest.raises(SignatureInvalid):
                verify(json.dumps(envelope).encode())


@pytest.mark.parametrize("of_root", [True, False], ids=["of the root", "of the intermediate"])
def test_every_flipped_bit_of_a_signature_breaks_it(*, of_root: bool) -> None:
    """Neither of the two signatures holds with any bit changed."""
    envelope = TOKEN.envelope()
    signatures = envelope["intermediateSigningKey"]["signatures"]
    signature = base64.b64decode(signatures[0] if of_root else envelope["signature"])
    for position in range(len(signature)):
        for bit in range(8):
            forged = bytearray(signature)
            forged[position] ^= 1 << bit
            if of_root:
                signatures[0] = b64(bytes(forged))
            else:
                envelope["signature"] = b64(bytes(forged))
            with pytest.raises(SignatureInvalid):
                verify(json.dumps(envelope).encode())


def test_another_root_is_an_unknown_key() -> None:
    """A root key that is not among those known says that newer keys may be needed."""
    with pytest.raises(KeyUnknown):
        verify(GOOD, root_keys=(root_key(OTHER_ROOT),))


def test_without_root_keys_nothing_is_taken() -> None:
    """An empty list of root keys trusts nobody."""
    with pytest.raises(KeyUnknown):
        verify(GOOD, root_keys=())


def test_any_root_may_have_signed() -> None:
    """One of several roots, and one of several signatures of roots, is enough."""
    envelope = TOKEN.envelope()
    envelope["intermediateSigningKey"]["signatures"].insert(0, sign(new_key(), b"of another time"))
    body = json.dumps(envelope).encode()
    assert verify(body, root_keys=(root_key(OTHER_ROOT), root_key())).recipient == MERCHANT


def test_a_root_of_another_protocol_version_is_not_asked() -> None:
    """A key for signing only does not sign payment tokens."""
    with pytest.raises(KeyUnknown):
        verify(GOOD, root_keys=(root_key(version="ECv2SigningOnly"),))


@pytest.mark.parametrize(("expires_ms", "is_taken"), [(NOW_MS, False), (NOW_MS + 1, True)])
def test_a_root_counts_until_it_expires(expires_ms: int, *, is_taken: bool) -> None:
    """An expired root signs no more, from its very millisecond on."""
    keys = (root_key(expires_ms=expires_ms),)
    if is_taken:
        assert verify(GOOD, root_keys=keys).recipient == MERCHANT
        return
    with pytest.raises(KeyUnknown):
        verify(GOOD, root_keys=keys)


@pytest.mark.parametrize(("expires_ms", "is_taken"), [(NOW_MS, False), (NOW_MS + 1, True)])
def test_an_intermediate_key_counts_until_it_expires(expires_ms: int, *, is_taken: bool) -> None:
    """An expired intermediate key is told apart from one that nobody signed."""
    fields = {"keyExpiration": str(expires_ms)}
    body = replace(TOKEN, intermediate_fields=fields).body()
    if is_taken:
        assert verify(body).recipient == MERCHANT
        return
    with pytest.raises(Expired, match="intermediate"):
        verify(body)


def test_the_root_itself_does_not_sign_messages() -> None:
    """A message that is signed by the root instead of the intermediate is refused."""
    envelope = TOKEN.envelope()
    signed = lv("Google", MERCHANT, "ECv2", envelope["signedMessage"])
    envelope["signature"] = sign(ROOT, signed)
    with pytest.raises(SignatureInvalid):
        verify(json.dumps(envelope).encode())


@pytest.mark.parametrize("version", ["ECv1", "ECv2SigningOnly", "ECv3", "ecv2"])
def test_another_protocol_version_is_told_so(version: str) -> None:
    """A token of another version is refused by its name, however it is signed."""
    with pytest.raises(UnsupportedVersion):
        verify(replace(TOKEN, version=version).body(), root_keys=(root_key(version=version),))


def test_another_sender_is_refused() -> None:
    """What Google signs under another name is no payment token."""
    with pytest.raises(SignatureInvalid):
        verify(replace(TOKEN, sender="GooglePayPasses").body())


def test_the_replay_key_is_that_of_the_signed_message() -> None:
    """White space, the order of keys and the twin of a signature make no other token."""
    envelope = TOKEN.envelope()
    low, high = decode_dss_signature(base64.b64decode(envelope["signature"]))
    twin = encode_dss_signature(low, P256_ORDER - high)
    rewritten = dict(reversed(envelope.items())) | {"signature": b64(twin), "extra": 1}
    again = verify(json.dumps(rewritten, indent=3).encode())
    assert again.replay_key == verify(GOOD).replay_key


def test_the_replay_keys_of_two_tokens_differ() -> None:
    """The same card twice makes two tokens."""
    assert verify(token_for(card_content()).body()).replay_key != verify(GOOD).replay_key


def test_a_key_that_is_named_twice_is_malformed() -> None:
    """What another parser could read in another way is not forwarded."""
    doubled = GOOD[:-1] + b', "signedMessage": "{}"}'
    with pytest.raises(Malformed):
        verify(doubled)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf" + GOOD,
        GOOD + b"x",
        GOOD + GOOD,
        b"[" * 10_000,
        b'{"protocolVersion":"ECv2","x":' + b"[" * 8_000 + b"]" * 8_000 + b"}",
        b'{"protocolVersion":' + b"9" * 5_000 + b"}",
        b'{"protocolVersion":NaN}',
        b" " * 16_384 + GOOD,
    ],
    ids=lambda body: str(body[:24]),
)
def test_what_is_no_envelope_is_malformed(body: bytes) -> None:
    """Broken, trailing, too deep or too long JSON is refused before anything is verified."""
    with pytest.raises(Malformed):
        verify(body)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("signature"),
        lambda content: content.pop("signedMessage"),
        lambda content: content.pop("protocolVersion"),
        lambda content: content.pop("intermediateSigningKey"),
        lambda content: content.update(signature=7),
        lambda content: content.update(signature="*"),
        lambda content: content.update(signature="a"),
        lambda content: content.update(signature="\u00e9"),
        lambda content: content.update(signedMessage=""),
        lambda content: content.update(signedMessage="\ud800"),
        lambda content: content.update(signedMessage={}),
        lambda content: content.update(intermediateSigningKey=[]),
        lambda content: content["intermediateSigningKey"].update(signatures=[]),
        lambda content: content["intermediateSigningKey"].update(signatures="MEUC"),
        lambda content: content["intermediateSigningKey"].update(signatures=[None]),
        lambda content: content["intermediateSigningKey"].update(signatures=["MEUC"] * 9),
        lambda content: content["intermediateSigningKey"].update(signedKey=7),
    ],
)
def test_an_envelope_that_lacks_a_part_is_malformed(change: Callable[[Content], object]) -> None:
    """Each part is there, and is what it should be."""
    with pytest.raises(Malformed):
        verify(changed(change))


@pytest.mark.parametrize(
    "fields",
    [
        {"keyExpiration": None},
        {"keyExpiration": "soon"},
        {"keyExpiration": "-1"},
        {"keyExpiration": True},
        {"keyExpiration": 1.5},
        {"keyExpiration": "9" * 16},
        {"keyExpiration": "\u0661" * 13},
        {"keyValue": None},
        {"keyValue": b64(b"no key")},
        {"keyValue": key_value(new_key()) + "AAAA"},
        {
            "keyValue": b64(
                ec.generate_private_key(ec.SECP384R1())
                .public_key()
                .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            )
        },
    ],
)
def test_an_intermediate_key_that_is_none_is_malformed(fields: Content) -> None:
    """A signature of the root does not make a key of what is none."""
    with pytest.raises(Malformed):
        verify(replace(TOKEN, intermediate_fields=fields).body())


@pytest.mark.parametrize(
    "fields",
    [
        {"tag": b64(bytes(31))},
        {"tag": None},
        {"ephemeralPublicKey": b64(bytes(64))},
        {"encryptedMessage": ""},
        {"encryptedMessage": None},
    ],
)
def test_a_signed_message_that_is_no_payment_is_malformed(fields: Content) -> None:
    """A good signature over something else is no token."""
    text = json.dumps(sealed(b"{}") | fields)
    with pytest.raises(Malformed):
        verify(replace(TOKEN, text=text).body())


def test_a_token_is_opened_with_the_merchants_key() -> None:
    """The card comes out as it went in, by whichever of the merchant's keys fits."""
    card = decrypt_payment_token(verify(GOOD), (new_key(), RECIPIENT), NOW_MS)
    assert (card.pan, card.cryptogram, card.eci_indicator) == (PAN, CRYPTOGRAM, "05")
    assert (card.expiration_month, card.expiration_year) == (12, 2031)
    assert card.auth_method is AuthMethod.CRYPTOGRAM_3DS
    assert card.message_expires_ms == LATER_MS


def test_a_card_on_file_has_no_cryptogram() -> None:
    """PAN_ONLY comes without cryptogram and indicator."""
    details = card_details(authMethod="PAN_ONLY", cryptogram=None, eciIndicator="")
    card = open_content(card_content(paymentMethodDetails=details))
    assert (card.auth_method, card.cryptogram, card.eci_indicator) == (AuthMethod.PAN_ONLY, "", "")


def test_nothing_printed_holds_card_data() -> None:
    """Tokens, cards and errors can be logged."""
    verified = verify(GOOD)
    card = decrypt_payment_token(verified, (RECIPIENT,), NOW_MS)
    with pytest.raises(Malformed) as raised:
        open_content(card_content(paymentMethodDetails=card_details(authMethod=PAN)))
    shown = f"{verified!r} {card!r} {raised.value!r} {raised.value.__cause__!r}"
    for secret in (PAN, CRYPTOGRAM, verified.message.ciphertext.hex(), "2031"):
        assert secret not in shown


@pytest.mark.parametrize("keys", [(), (new_key(),), (ec.generate_private_key(ec.SECP256R1()),)])
def test_without_the_right_key_a_token_stays_closed(
    keys: tuple[ec.EllipticCurvePrivateKey, ...],
) -> None:
    """No key, or another one, does not open it."""
    with pytest.raises(CannotDecrypt):
        decrypt_payment_token(verify(GOOD), keys, NOW_MS)


def test_a_bound_on_private_keys() -> None:
    """More keys than a rotation needs are a mistake."""
    with pytest.raises(ValueError, match="private keys"):
        decrypt_payment_token(verify(GOOD), (RECIPIENT,) * 9, NOW_MS)


@pytest.mark.parametrize("name", ["encryptedMessage", "ephemeralPublicKey", "tag"])
def test_every_flipped_bit_of_the_encrypted_parts_is_noticed(name: str) -> None:
    """Even under a good signature, the tag covers the ciphertext and the ephemeral key."""
    parts = sealed(json.dumps(card_content()).encode())
    content = base64.b64decode(parts[name])
    for position in range(0, len(content), 5):
        forged = bytearray(content)
        forged[position] ^= 1 << position % 8
        text = json.dumps(parts | {name: b64(bytes(forged))})
        verified = verify(replace(TOKEN, text=text).body())
        with pytest.raises(CannotDecrypt):
            decrypt_payment_token(verified, (RECIPIENT,), NOW_MS)


@pytest.mark.parametrize(("expires_ms", "is_taken"), [(NOW_MS, False), (NOW_MS + 1, True)])
def test_a_message_counts_until_it_expires(expires_ms: int, *, is_taken: bool) -> None:
    """The current time must be less than `messageExpiration`."""
    content = card_content(messageExpiration=str(expires_ms))
    if is_taken:
        assert open_content(content).message_expires_ms == expires_ms
        return
    with pytest.raises(Expired, match="message"):
        open_content(content)


def test_a_gateways_token_is_for_one_of_its_merchants() -> None:
    """A gateway's token names the merchant; for another one, or none, it is refused."""
    content = card_content(gatewayMerchantId="shop-1")
    assert open_content(content, gateway_merchant_id="shop-1").gateway_merchant_id == "shop-1"
    for found in (content, card_content()):
        with pytest.raises(WrongRecipient):
            open_content(found, gateway_merchant_id="shop-2")


BAD_DETAILS: tuple[Content, ...] = (
    {"pan": None},
    {"pan": "4111"},
    {"pan": 4111111111111111},
    {"pan": PAN + "\n"},
    {"expirationMonth": 0},
    {"expirationMonth": 13},
    {"expirationMonth": True},
    {"expirationMonth": "12"},
    {"expirationYear": 31},
    {"authMethod": None},
    {"authMethod": "PIN"},
    {"cryptogram": None},
    {"cryptogram": {}},
    {"eciIndicator": 5},
)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        card_content(messageExpiration=None),
        card_content(paymentMethod="TOKEN"),
        card_content(paymentMethodDetails=None),
        card_content(messageId=7),
        card_content(messageId="x" * 513),
        card_content(gatewayMerchantId=["x"]),
        *(card_content(paymentMethodDetails=card_details(**bad)) for bad in BAD_DETAILS),
    ],
)
def test_an_opened_message_that_is_no_card_is_malformed(content: object) -> None:
    """Encryption does not make a card of what is none."""
    with pytest.raises(Malformed):
        open_content(content)


def callback_content(**fields: object) -> Content:
    """Return what a callback says, changed as asked."""
    return {
        "classId": f"{ISSUER_ID}.offers",
        "objectId": f"{ISSUER_ID}.7",
        "expTimeMillis": LATER_MS,
        "eventType": "save",
        "nonce": "9f6e2d1c",
        **fields,
    }


def callback(**fields: object) -> Message:
    """Return a callback, changed as asked."""
    return Message(
        json.dumps(callback_content(**fields)),
        sender="GooglePayPasses",
        recipient=ISSUER_ID,
        version="ECv2SigningOnly",
    )


SIGNING_ROOT = root_key(version="ECv2SigningOnly")


def verify_callback(
    body: bytes, issuer_id: str = ISSUER_ID, root_keys: Sequence[RootKey] = (SIGNING_ROOT,)
) -> PassCallback:
    """Verify under the keys of the test."""
    return verify_pass_callback(body, root_keys, issuer_id, NOW_MS)


def test_a_signed_callback_is_read() -> None:
    """A callback for the issuer tells what happened to which pass."""
    found = verify_callback(callback().body())
    assert (found.event_type, found.nonce) == ("save", "9f6e2d1c")
    assert (found.class_id, found.object_id) == (f"{ISSUER_ID}.offers", f"{ISSUER_ID}.7")
    assert found.replay_key == verify_callback(callback().body()).replay_key


def test_a_private_pass_has_no_class() -> None:
    """What a callback leaves out is empty."""
    assert verify_callback(callback(classId=None, objectId=None).body()).class_id == ""


def test_a_callback_for_another_issuer_is_refused() -> None:
    """The issuer's id is the recipient."""
    with pytest.raises(SignatureInvalid):
        verify_callback(callback().body(), issuer_id="3388000000000000000")


def test_a_callback_needs_a_root_for_signing_only() -> None:
    """Keys of payment tokens do not sign callbacks."""
    with pytest.raises(KeyUnknown):
        verify_callback(callback().body(), root_keys=(root_key(),))


def test_a_callback_is_no_payment_and_a_payment_no_callback() -> None:
    """Neither is taken for the other."""
    with pytest.raises(UnsupportedVersion):
        verify(callback().body())
    with pytest.raises(UnsupportedVersion):
        verify_callback(GOOD)


def test_every_flipped_bit_of_a_callback_breaks_its_signature() -> None:
    """No bit of what a callback says can be changed."""
    envelope = callback().envelope()
    text = envelope["signedMessage"]
    for position, character in enumerate(text):
        envelope["signedMessage"] = text[:position] + chr(ord(character) ^ 1) + text[position + 1 :]
        with pytest.raises(SignatureInvalid):
            verify_callback(json.dumps(envelope).encode())


def test_an_old_callback_is_expired() -> None:
    """After its time a callback counts no more."""
    with pytest.raises(Expired):
        verify_callback(callback(expTimeMillis=NOW_MS).body())


@pytest.mark.parametrize("of_root", [True, False], ids=["of the root", "of the intermediate"])
def test_a_callback_under_an_expired_key_is_refused(*, of_root: bool) -> None:
    """Keys sign callbacks until their time is over, and not a moment longer."""
    root = root_key(version="ECv2SigningOnly", expires_ms=NOW_MS if of_root else LATER_MS)
    fields = {} if of_root else {"keyExpiration": str(NOW_MS)}
    message = replace(callback(), intermediate_fields=fields)
    with pytest.raises((Expired, KeyUnknown)):
        verify_callback(message.body(), root_keys=(root,))


@pytest.mark.parametrize("of_root", [True, False], ids=["of the root", "of the intermediate"])
def test_a_callback_under_another_key_is_refused(*, of_root: bool) -> None:
    """Neither a root nor an intermediate key that Google did not sign with helps."""
    envelope = callback().envelope()
    if of_root:
        envelope["intermediateSigningKey"] = replace(callback(), root=OTHER_ROOT).envelope()[
            "intermediateSigningKey"
        ]
    else:
        envelope["signature"] = replace(callback(), intermediate=OTHER_ROOT).envelope()["signature"]
    with pytest.raises((SignatureInvalid, KeyUnknown)):
        verify_callback(json.dumps(envelope).encode())


@pytest.mark.parametrize(
    "fields",
    [
        {"expTimeMillis": None},
        {"eventType": None},
        {"eventType": 7},
        {"eventType": "\ud800"},
        {"nonce": ""},
        {"nonce": "x" * 257},
        {"classId": ["x"]},
    ],
)
def test_a_signed_callback_that_says_nothing_is_malformed(fields: Content) -> None:
    """A signature does not make a callback of what is none."""
    with pytest.raises(Malformed):
        verify_callback(callback(**fields).body())


def listed(**fields: object) -> Content:
    """Return an entry of a key list, changed as asked."""
    return {
        "keyValue": key_value(ROOT),
        "protocolVersion": "ECv2",
        "keyExpiration": str(LATER_MS),
        **fields,
    }


def key_list(*entries: object) -> bytes:
    """Return a key list."""
    return json.dumps({"keys": entries}).encode()


def test_a_key_list_gives_the_keys_that_count_here() -> None:
    """Keys of other versions, and keys that cannot be read, are left out."""
    keys = read_root_keys(
        key_list(
            listed(protocolVersion="ECv1", keyExpiration=None),
            listed(protocolVersion="ECv2SigningOnly"),
            listed(protocolVersion=["ECv2"]),
            listed(keyExpiration=None),
            listed(keyValue="AAAA"),
            "ECv2",
            listed(),
        )
    )
    assert [key.protocol_version for key in keys] == ["ECv2SigningOnly", "ECv2"]
    assert verify(GOOD, root_keys=keys).recipient == MERCHANT


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        key_list(),
        key_list(listed(protocolVersion="ECv1")),
        key_list(*[listed()] * 17),
        b" " * 65_536 + key_list(listed()),
    ],
    ids=lambda body: str(body[:16]),
)
def test_a_list_without_a_usable_key_is_malformed(body: bytes) -> None:
    """What has no key to trust, or too many, is no key list."""
    with pytest.raises(Malformed):
        read_root_keys(body)


def refused_or_taken(call: Callable[[], object]) -> None:
    """Let pass what is taken, and what is refused as documented; no other error."""
    with contextlib.suppress(GooglePayError):
        call()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(body: bytes) -> None:
    """Whatever comes, the error is a typed one."""
    refused_or_taken(lambda: verify(body))
    refused_or_taken(lambda: verify_callback(body))
    refused_or_taken(lambda: read_root_keys(body))


@given(st.data())
def test_a_good_token_with_a_random_part_raises_nothing_else(data: st.DataObject) -> None:
    """Whatever stands in one part of an envelope, the error is a typed one."""
    envelope = TOKEN.envelope()
    part = data.draw(st.sampled_from([*envelope, "signedKey", "signatures"]))
    holder = envelope if part in envelope else envelope["intermediateSigningKey"]
    holder[part] = data.draw(JSON)
    refused_or_taken(lambda: verify(json.dumps(envelope).encode()))


@given(st.sampled_from([*sealed(b"")]), JSON)
def test_a_signed_random_part_raises_nothing_else(part: str, value: object) -> None:
    """Whatever Google signs, the error is a typed one."""
    text = json.dumps(sealed(b"{}") | {part: value})
    refused_or_taken(
        lambda: decrypt_payment_token(
            verify(replace(TOKEN, text=text).body()), (RECIPIENT,), NOW_MS
        )
    )


@given(st.sampled_from([*card_content(), *card_details(), "gatewayMerchantId"]), JSON)
def test_an_encrypted_random_part_raises_nothing_else(part: str, value: object) -> None:
    """Whatever was encrypted, the error is a typed one."""
    details = card_details() | ({part: value} if part in card_details() else {})
    content = card_content(paymentMethodDetails=details)
    if part not in card_details():
        content[part] = value
    refused_or_taken(lambda: open_content(content))


@given(st.sampled_from([*callback_content()]), JSON)
def test_a_signed_random_callback_raises_nothing_else(part: str, value: object) -> None:
    """Whatever a callback says, the error is a typed one."""
    refused_or_taken(lambda: verify_callback(callback(**{part: value}).body()))


def test_the_published_tokens_hold() -> None:
    """Published tokens of the second version are verified under their published root."""
    path = VECTORS / "googlepay.json"
    if not path.exists():
        pytest.skip(f"The published vectors are not here: {path} is absent.")
    cases = json.loads(path.read_bytes())["cases"]
    assert cases
    for case in cases:
        keys = read_root_keys(key_list(*case["root_signing_keys"]))
        token = json.dumps(case["token"]).encode()
        verified = verify(token, keys, (MERCHANT, case["recipient_id"]), case["now_ms"])
        assert verified.recipient == case["recipient_id"]
        with pytest.raises(SignatureInvalid):
            verify(token, keys, now_ms=case["now_ms"])
        with pytest.raises(CannotDecrypt):
            decrypt_payment_token(verified, (RECIPIENT,), case["now_ms"])
