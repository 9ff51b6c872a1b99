"""What operators' commands stand on: the database of the settings, or that of a running `up`."""

import getpass
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from server.cli.development import development_settings, running_mongodb, sandbox_api_urls
from server.cli.logs import configure_logs
from server.commit.committer import Committer
from server.config import Settings, load_settings
from server.metrics import Metrics
from server.store.connection import Database, connect
from server.store.embedded import embedded_mongod
from server.store.encryption import Encryption
from server.store.ledger_store import LedgerStore


def loaded_settings() -> Settings:
    """Load the settings, and keep logs off the standard output: that is the command's answer."""
    settings = load_settings()
    configure_logs(settings)
    return settings


def operator_name() -> str:
    """Return who runs this; empty where the system does not know, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def operator_settings(settings: Settings) -> Settings:
    """Return the settings as they are, or, where no database is named, those of `up`."""
    if settings.mongodb_uri.get_secret_value():
        return settings
    return development_settings(settings, **sandbox_api_urls(f"http://{settings.sandbox_address}"))


def encryption_of(settings: Settings) -> Encryption:
    """Return what opens and seals the values of the database that the settings name."""
    return Encryption(operator_settings(settings).encryption())


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the named database, that of a running `up`, or the embedded one of the data folder."""
    async with AsyncExitStack() as resources:
        uri = settings.mongodb_uri.get_secret_value() or running_mongodb(settings.data_dir)
        if not uri:
            uri = await resources.enter_async_context(embedded_mongod(settings.data_dir))
        yield resources.enter_context(connect(uri))


@asynccontextmanager
async def opened_ledger(settings: Settings) -> AsyncIterator[tuple[Database, Committer]]:
    """Open the database with a committer of one's own; servers on it go on undisturbed."""
    async with (
        opened_database(settings) as database,
        Committer(
            LedgerStore(database, encryption_of(settings)),
            Metrics(),
            limits=settings.wallet_limits(),
        ) as committer,
    ):
        yield database, committer
