"""A server with all of its protection: mutual TLS, bound ES256 tokens, a list of revoked ones."""

import json
import secrets
import time
from pathlib import Path
from typing import Any, Final

import grpc
import jwt
from bench_requests import CALLER, claims
from cryptography.hazmat.primitives.asymmetric import ec

from certificate_bench import Authority
from server.config import Settings

_REVOKED: Final = 10_000
_ALGORITHM: Final = "ES256"
_TOKEN: Final = "token.txt"


def protected(settings: Settings, folder: Path) -> Settings:
    """Add the protection, and leave in the folder what a caller needs to get in."""
    authority = Authority()
    certificate, key = authority.server().write(folder, "server")
    authority.caller(CALLER).write(folder, "caller")
    signer = ec.generate_private_key(ec.SECP256R1())
    named = {"kid": "bench", "alg": _ALGORITHM}
    public = jwt.algorithms.ECAlgorithm.to_jwk(signer.public_key(), as_dict=True) | named
    keys = folder / "keys.json"
    keys.write_text(json.dumps({"keys": [public]}))
    signed = jwt.encode(
        claims(int(time.time())) | {"jti": "bench"}, signer, _ALGORITHM, headers={"kid": "bench"}
    )
    (folder / _TOKEN).write_text(signed)
    revoked = folder / "revoked.txt"
    revoked.write_text("\n".join(secrets.token_hex(16) for _ in range(_REVOKED)))
    changes: dict[str, Any] = {
        "jwt_algorithms": (_ALGORITHM,),
        "jwt_keys": type(settings.jwt_keys)(f"@{keys}"),
        "jwt_revoked": str(revoked),
        "grpc_certificate": certificate,
        "grpc_key": key,
        "grpc_client_roots": authority.write(folder, "roots"),
        "grpc_subject_names": (f"{CALLER}=spiffe://shop/{CALLER}",),
    }
    return settings.model_copy(update=changes)


def credentials_in(folder: Path) -> grpc.ChannelCredentials:
    """Return what a caller of the protected server connects with."""
    return grpc.ssl_channel_credentials(
        *((folder / name).read_bytes() for name in ("roots.pem", "caller.key", "caller.pem"))
    )


def token_in(folder: Path) -> str:
    """Return the caller's token."""
    return (folder / _TOKEN).read_text()
