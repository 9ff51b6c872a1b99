"""What the image does, without an engine: its lock, its wheel, a tree that is never written to."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from harness import eventually, free_port, jwt_keys, with_database
from running_up import ROOT

NOBODY: Final = 65_534
SECONDS: Final = 900


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """The image's /app, built by the steps of deploy/Dockerfile."""
    folder = Path(tempfile.mkdtemp(prefix="wallet-image-"))
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, source)
    for name in ("protos", "server", "gateway_adapters"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    # The wheel is built by this environment's own tools: they are within the same bounds.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        [*pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", folder, source],
        check=True,
        env={**os.environ, "PATH": path},
    )
    (wheel,) = folder.glob("*.whl")
    app = folder / "app"
    venv.create(app, with_pip=False)
    into = (*pip, "--python", str(app / "bin" / "python"), "install")
    lock = ("--only-binary", ":all:", "--require-hashes", "-r", ROOT / "deploy/requirements.txt")
    subprocess.run([*into, *lock], check=True)
    subprocess.run([*into, "--no-deps", "--no-index", wheel], check=True)
    subprocess.run([app / "bin" / "python", "-m", "compileall", "-q", app / "lib"], check=True)
    folder.chmod(0o755)
    yield app
    shutil.rmtree(folder)


def tree(folder: Path) -> dict[str, int]:
    """Return every file of a folder with when it was written."""
    return {str(file): file.lstat().st_mtime_ns for file in sorted(folder.rglob("*"))}


def runs_as(image: Path) -> dict[str, Any]:
    """Return whom the image's program can run as here: nobody, where its interpreter is for all."""
    if os.geteuid() != 0:
        return {}
    interpreter = (image / "bin" / "python").resolve()
    try:
        tried = subprocess.run([interpreter, "-c", ""], user=NOBODY, check=False)
    except PermissionError:
        return {}
    return {"user": NOBODY, "group": NOBODY} if tried.returncode == 0 else {}


@pytest.mark.timeout(SECONDS)
async def test_the_image_serves_and_writes_nowhere(
    image: Path, mongodb_uri: str, tmp_path: Path
) -> None:
    """From locked packages and the wheel alone it serves, says so, and stops in order."""
    workdir = image.parent / "tmp"
    workdir.mkdir(mode=0o777)
    port = free_port()
    environment = {
        "PATH": f"{image / 'bin'}:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "PYTHONDONTWRITEBYTECODE": "1",
        "WALLET_MONGODB_URI": with_database(mongodb_uri, "image"),
        "WALLET_JWT_KEYS": json.dumps(jwt_keys()),
        "WALLET_JWT_ALGORITHMS": "HS256",
        "WALLET_GRPC_ADDRESS": f"127.0.0.1:{port}",
        "WALLET_SERVER_TARGET": f"127.0.0.1:{port}",
        "WALLET_METRICS_ADDRESS": "127.0.0.1:0",
    }
    before = tree(image)
    command = str(image / "bin" / "wallet-payment")
    user = runs_as(image)
    log = tmp_path / "log"
    with log.open("wb") as opened:
        server = await asyncio.create_subprocess_exec(
            *(command, "serve"), cwd=workdir, env=environment, stderr=opened, **user
        )

    async def health() -> str:
        process = await asyncio.create_subprocess_exec(
            *(command, "health"),
            cwd=workdir,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            **user,
        )
        output, _ = await process.communicate()
        told = output.decode().strip()
        assert (process.returncode == 0) == (told == "SERVING")
        return told

    async def is_serving() -> bool:
        assert server.returncode is None, log.read_text()
        return await health() == "SERVING"

    try:
        await eventually(is_serving, within_seconds=120)
    finally:
        server.terminate()
        async with asyncio.timeout(60):
            await server.wait()
    assert server.returncode == 0
    assert await health() == "UNREACHABLE"
    assert tree(image) == before
    assert list(workdir.iterdir()) == []
