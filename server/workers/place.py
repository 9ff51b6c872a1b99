"""Where a worker stands among the others."""

import zlib
from dataclasses import dataclass
from pathlib import Path

from server.ledger.commands import Command, lane_key


@dataclass(frozen=True, slots=True)
class Place:
    """One of `count` workers, which meet in `folder`: nobody but their user may look into it."""

    index: int
    count: int
    folder: Path

    @property
    def others(self) -> tuple[int, ...]:
        """The indexes of the other workers."""
        return tuple(index for index in range(self.count) if index != self.index)

    @property
    def metrics_socket(self) -> Path:
        """Where the supervisor asks this worker for its metrics."""
        return metrics_socket(self.folder, self.index)

    def command_socket(self, index: int) -> Path:
        """Where a worker takes commands of the others."""
        return self.folder / f"{index}.commands"

    def owner_of(self, command: Command) -> int:
        """Return the index of the worker that carries out `command`."""
        return zlib.crc32(lane_key(command).encode()) % self.count


def metrics_socket(folder: Path, index: int) -> Path:
    """Return where a worker tells its metrics."""
    return folder / f"{index}.metrics"
