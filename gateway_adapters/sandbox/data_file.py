"""The sandbox's state in one JSON file, replaced as a whole, so that a crash leaves the old one."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Json = Any
"""What JSON can say. The sandbox reads only what it wrote itself."""


class DataFileDamaged(Exception):
    """The file is there and is not one that the sandbox wrote."""


class DataFile:
    """Owns the file. Changes that come while it is being written go into one write after it."""

    def __init__(self, path: Path | None, content: Callable[[], Json]) -> None:
        """`content` gives what is to be saved; without a `path` nothing is."""
        self._path = path
        self._content = content
        self._lock = asyncio.Lock()
        self._wanted = 0
        self._written = 0
        self._writes: set[asyncio.Task[None]] = set()

    @contextmanager
    def reading(self) -> Iterator[dict[str, Json]]:
        """Give what the file holds, nothing where there is none.

        Raises:
            DataFileDamaged: it cannot be read, here or by the one who asked.
        """
        try:
            yield _read(self._path) if self._path is not None else {}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataFileDamaged(
                f"{self._path} is not a data file of the sandbox. Remove it to start afresh."
            ) from error

    async def save(self) -> None:
        """Return once the state as it is now is in the file."""
        if self._path is None:
            return
        self._wanted += 1
        # The write goes on where whoever asked for it goes away: two at once must not be.
        write = asyncio.create_task(self._write(self._path, self._wanted))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        await asyncio.shield(write)

    async def close(self) -> None:
        """Wait for the writes that are under way."""
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def _write(self, path: Path, wanted: int) -> None:
        async with self._lock:
            if self._written >= wanted:
                return
            covered = self._wanted
            text = json.dumps(self._content())
            await asyncio.to_thread(_replace, path, text)
            self._written = covered


def _read(path: Path) -> dict[str, Json]:
    content: dict[str, Json] = json.loads(path.read_bytes()) if path.exists() else {}
    return content


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
