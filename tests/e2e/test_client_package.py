"""The client's own package: built as its users build it, it has all that it needs and no more."""

import subprocess
import sys
import zipfile
from pathlib import Path

from running_up import ROOT


def test_the_client_is_a_package_of_its_own(tmp_path: Path) -> None:
    """Its wheel has the client and the stubs, can be imported alone, and has nothing else."""
    client = ROOT / "clients" / "python"
    build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    subprocess.run(build, cwd=client, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("wallet_payment_client-*.whl")
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
        folders = {"/".join(name.split("/")[:2]) for name in archive.namelist()}
    program = (
        f"import sys; sys.path.insert(0, {str(unpacked)!r});"
        "import wallet_payment.client as client; print(client.__file__)"
    )
    imported = subprocess.run(
        (sys.executable, "-P", "-c", program), check=True, capture_output=True, text=True
    )

    packages = {folder for folder in folders if ".dist-info" not in folder}
    assert packages == {"wallet_payment/client", "wallet_payment/v1"}
    assert imported.stdout.strip() == f"{unpacked}/wallet_payment/client/__init__.py"
