"""`wallet-payment keys`: what it writes signs and verifies, and it overwrites no key."""

from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner

from server.access.trust import verification_keys
from server.cli.keys import BadKeyFile, keys
from server.config import parse_key_set

ALGORITHMS = ("ES256", "EdDSA", "RS256")


def run(folder: Path, *arguments: str) -> str:
    """Run the command with this folder's key set; return what it prints, or raise its error."""
    public = ("--public", str(folder / "public.json"))
    result = CliRunner().invoke(keys, [*arguments, *public], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def new(folder: Path, kid: str, *options: str) -> str:
    """Make a key."""
    return run(folder, "new", kid, "--private", str(folder / f"{kid}.json"), *options)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_new_key_signs_what_its_public_half_verifies(tmp_path: Path, algorithm: str) -> None:
    """Of each algorithm, the private file signs; the public one verifies, and holds no secret."""
    new(tmp_path, "one", "--algorithm", algorithm)

    (private,) = parse_key_set((tmp_path / "one.json").read_text())
    (public,) = parse_key_set((tmp_path / "public.json").read_text())
    signed = jwt.encode({"sub": "x"}, jwt.PyJWK(private).key, algorithm)
    (key,) = verification_keys([public], ALGORITHMS)
    assert jwt.decode(signed, key.key, [algorithm]) == {"sub": "x"}
    assert not {"d", "p", "q", "k"} & public.keys()
    assert (tmp_path / "one.json").stat().st_mode & 0o777 == 0o600


def test_keys_come_beside_the_others_and_go(tmp_path: Path) -> None:
    """A new key is added to the set, a retired one is taken out of it."""
    new(tmp_path, "one")
    assert "verifies: one, two" in new(tmp_path, "two")
    assert "verifies: two" in run(tmp_path, "retire", "one")


def test_no_key_is_lost_or_doubled_by_mistake(tmp_path: Path) -> None:
    """A name that is taken, a private file that is there, and the last key are refused."""
    new(tmp_path, "one")
    with pytest.raises(BadKeyFile, match="has a key one already"):
        new(tmp_path, "one")
    (tmp_path / "two.json").write_text("another's")
    with pytest.raises(BadKeyFile, match="never overwritten"):
        new(tmp_path, "two")
    with pytest.raises(BadKeyFile, match="no key three"):
        run(tmp_path, "retire", "three")
    with pytest.raises(BadKeyFile, match="the last key"):
        run(tmp_path, "retire", "one")

    (key,) = parse_key_set((tmp_path / "public.json").read_text())
    assert key["kid"] == "one"
    assert (tmp_path / "two.json").read_text() == "another's"


@pytest.mark.parametrize("content", ["", "[]", '{"keys": [{"kid": "one"}]}'])
def test_a_file_that_is_no_key_set_is_left_alone(tmp_path: Path, content: str) -> None:
    """What cannot be read as a key set is not replaced by one."""
    public = tmp_path / "public.json"
    public.write_text(content)
    with pytest.raises(BadKeyFile, match="not a JSON Web Key Set"):
        new(tmp_path, "one")
    assert public.read_text() == content
