"""Files that are looked at again and again: what goes wrong with one stops nothing."""

from pathlib import Path

import pytest

from harness import eventually
from key_bench import replace_file
from server.access import watched_files
from server.access.watched_files import Contents, Unusable, WatchedFiles


class Observer:
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def renewed(self, what: str) -> None:
        """Note a renewal."""
        self.notes.append(f"renewed {what}")

    def renewal_failed(self, what: str) -> None:
        """Note a failure."""
        self.notes.append(f"failed {what}")


def number_in(contents: Contents) -> int:
    """Read a number; nothing is negative, and 13 is what nobody foresaw."""
    number = int(contents[0])
    if number == 13:
        raise ZeroDivisionError
    if number < 0:
        raise Unusable("it is negative")
    return number


async def test_whatever_is_raised_the_files_are_looked_at_again(tmp_path: Path) -> None:
    """A mistake of a parser's is an alarm for its file alone, noted once, and over when it is."""
    odd, even = tmp_path / "odd", tmp_path / "even"
    odd.write_text("1")
    even.write_text("2")
    observer = Observer()
    taken: list[int] = []
    async with WatchedFiles(0.01, observer) as files:
        files.watch("odd", [odd], number_in, taken.append)
        files.watch("even", [even], number_in, taken.append)
        for content in ("13", "-1", "no number"):
            replace_file(odd, content)
            seen = len(observer.notes)

            async def is_noted(seen: int = seen) -> bool:
                return len(observer.notes) > seen

            await eventually(is_noted)
        replace_file(even, "4")

        async def is_taken() -> bool:
            return 4 in taken

        await eventually(is_taken)
        replace_file(odd, "1")

        async def is_over() -> bool:
            return observer.notes[-1] == "renewed odd"

        await eventually(is_over)
    assert set(taken) == {1, 2, 4}
    assert observer.notes.count("failed odd") == 3
    assert "failed even" not in observer.notes


async def test_a_file_is_read_within_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the bound is not taken, and neither is a folder."""
    monkeypatch.setattr(watched_files, "MAX_FILE_BYTES", 3)
    file = tmp_path / "file"
    file.write_text("1234")
    files = WatchedFiles(1, Observer())
    for path, says in ((file, "longer than 3 bytes"), (tmp_path, "cannot be read")):
        with pytest.raises(Unusable, match=says):
            files.watch("any", [path], number_in, print)
