"""Fixtures: one real MongoDB for the whole run, and one service on it."""

import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from harness import Harness, running_harness
from server.store.embedded import embedded_mongod

CHROMIUM = os.environ.get("WALLET_TEST_CHROMIUM", "")
"""The browser that `make browser` found; without one its tests are not collected."""

NODE = os.environ.get("WALLET_TEST_NODE", "")
"""The Node that `make node-example` found; without one its test is not collected."""
PROMTOOL = os.environ.get("WALLET_TEST_PROMTOOL", "")
"""The tool of Prometheus that `make alerts` found; without it its tests are not collected."""

collect_ignore = [
    folder
    for folder, needed in (("browser", CHROMIUM), ("node", NODE), ("alerts", PROMTOOL))
    if not needed
]


def pytest_configure() -> None:
    """Take Ctrl-C also where a shell runs the tests in the background: programs inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    """Say what becomes of the tests that need a browser, Node or promtool."""
    return [
        f"browser: {CHROMIUM or 'none here, so tests/browser is left out; see `make browser`'}",
        f"node: {NODE or 'not asked for, so tests/node is left out; see `make node-example`'}",
        f"promtool: {PROMTOOL or 'none here, so tests/alerts is left out; see `make alerts`'}",
    ]


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Undo what a command that ran in this process has done to the logs."""
    root = logging.getLogger()
    before, handlers, level = structlog.get_config(), root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
async def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A MongoDB replica set: the one that WALLET_TEST_MONGODB_URI names, or an embedded one."""
    given = os.environ.get("WALLET_TEST_MONGODB_URI")
    if given:
        yield given
        return
    folder: Path = tmp_path_factory.mktemp("mongodb")
    async with embedded_mongod(folder) as uri:
        yield uri


@pytest.fixture(scope="session")
async def harness(mongodb_uri: str) -> AsyncIterator[Harness]:
    """The whole service; tests keep apart by customers of their own."""
    async with running_harness(mongodb_uri) as running:
        yield running
