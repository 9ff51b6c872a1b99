"""Builds who verifies tokens, and keeps what they are verified with up to date."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from server.access.key_server import KeyServer
from server.access.trust import TrustedKeys, VerificationKey, revoked_ids, verification_keys
from server.access.watched_files import Contents, RenewalObserver, Unusable, WatchedFiles
from server.config import Settings, parse_key_set, read_key_set
from server.rpc.auth import Authenticator
from server.rpc.strangers import Strangers

_ASYMMETRIC: Final = frozenset({"ES256", "EdDSA", "RS256"})
"""What a key server may publish keys for: a secret that is published is none."""


@asynccontextmanager
async def running_authenticator(
    settings: Settings,
    session: aiohttp.ClientSession,
    files: WatchedFiles,
    observer: RenewalObserver,
    strangers: Strangers,
) -> AsyncIterator[Authenticator]:
    """Verify tokens as long as the context lasts, by the keys whose algorithms are allowed.

    Raises:
        Unusable: a file of keys or of revoked tokens is not what it should be.
    """
    trusted = TrustedKeys()
    given = settings.jwt_keys.get_secret_value()
    if given.startswith("@"):
        files.watch(
            "jwt_keys",
            [Path(given[1:])],
            lambda contents: _keys_of_file(contents, settings.jwt_algorithms),
            lambda keys: trusted.set_keys("settings", keys),
        )
    elif given:
        keys = verification_keys(read_key_set(settings.jwt_keys), settings.jwt_algorithms)
        trusted.set_keys("settings", keys)
    if settings.jwt_revoked:
        files.watch(
            "jwt_revoked",
            [Path(settings.jwt_revoked)],
            lambda contents: revoked_ids(contents[0]),
            trusted.set_revoked,
        )
    async with AsyncExitStack() as resources:
        look_again: Callable[[], Awaitable[None]] | None = None
        if settings.jwt_keys_url:
            server = KeyServer(
                session,
                settings.jwt_keys_url,
                lambda keys: trusted.set_keys("url", keys),
                observer,
                algorithms=_ASYMMETRIC.intersection(settings.jwt_algorithms),
                refresh_seconds=settings.jwt_keys_refresh_seconds,
            )
            look_again = (await resources.enter_async_context(server)).look_again
        yield Authenticator(
            trusted,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            look_again=look_again,
            strangers=strangers,
        )


def _keys_of_file(contents: Contents, algorithms: tuple[str, ...]) -> tuple[VerificationKey, ...]:
    try:
        return verification_keys(parse_key_set(contents[0]), algorithms)
    except ValueError as error:
        raise Unusable(str(error)) from None
