"""The guide to rotating keys: its commands, pasted against a server that trusts its keys."""

import asyncio
import os
import re
from pathlib import Path

from pydantic import SecretStr

from command_line import BIN
from harness import Harness
from key_bench import trusting
from running_up import ROOT

GUIDE = (ROOT / "docs/guides/rotate-token-keys.md").read_text()
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
SERVERS_START = 2
"""After so many blocks the guide says to start the servers."""


async def paste(script: str, folder: Path) -> str:
    """Run a script in bash in a folder; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-e", "-o", "pipefail", "-c", script),
        cwd=folder,
        env={"PATH": f"{BIN}:{os.environ['PATH']}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_a_key_is_rotated_as_the_guide_says(harness: Harness, tmp_path: Path) -> None:
    """Each call is let in or refused as the text before it says, while the server just runs."""
    first, second = await harness.customer(), await harness.customer()
    own = {"customer-1": first, "customer-2": second}
    blocks = [
        re.sub(r"customer-[12]\b", lambda found: own[found[0]], block)
        for block in BLOCK.findall(GUIDE)
    ]
    await paste("".join(blocks[:SERVERS_START]), tmp_path)
    public, revoked = tmp_path / "token-keys/public.json", tmp_path / "token-keys/revoked.txt"
    changes = {"jwt_keys": SecretStr(f"@{public}"), "jwt_revoked": str(revoked)}
    async with trusting(harness, **changes) as server:
        script = blocks[1] + "".join(blocks[SERVERS_START:])
        output = await paste(script.replace("127.0.0.1:50051", server.grpc_address), tmp_path)

    said = re.findall(r"TOKEN_INVALID|TOKEN_REVOKED|CUSTOMER_NOT_ALLOWED|^\{", output, re.MULTILINE)
    assert said == ["{", "{", "TOKEN_INVALID", "TOKEN_REVOKED", "{", "CUSTOMER_NOT_ALLOWED"]
    assert "verifies: first, second\n" in output
    assert (tmp_path / "token-keys/second.json").stat().st_mode & 0o777 == 0o600
