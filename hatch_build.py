"""Build hook: generates the Python stubs of `protos/` before the package is built or installed.

The stubs land in `build/stubs/wallet_payment`, which an editable install puts on the path and a
wheel contains as the package `wallet_payment`. They are never committed.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StubsBuildHook(BuildHookInterface[Any]):
    """Runs protoc, from grpcio-tools, on every proto of the contract."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate messages, services and their type hints."""
        del version, build_data
        generate(Path(self.root))


def generate(root: Path, stubs: Path | None = None) -> None:
    """Write the stubs of `root/protos` into `stubs`, replacing what was there.

    `wallet_payment` itself is a namespace package: the client's modules may stand beside the stubs.
    """
    from grpc_tools import protoc  # noqa: PLC0415 - only the build needs it

    protos = root / "protos"
    stubs = stubs or root / "build" / "stubs"
    shutil.rmtree(stubs, ignore_errors=True)
    stubs.mkdir(parents=True)
    well_known_types = Path(protoc.__file__).parent / "_proto"
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={protos}",
            f"--proto_path={well_known_types}",
            f"--plugin=protoc-gen-mypy={_plugin('protoc-gen-mypy')}",
            f"--plugin=protoc-gen-mypy_grpc={_plugin('protoc-gen-mypy_grpc')}",
            f"--python_out={stubs}",
            f"--grpc_python_out={stubs}",
            f"--mypy_out=quiet:{stubs}",
            f"--mypy_grpc_out=quiet:{stubs}",
            *(str(proto) for proto in sorted(protos.rglob("*.proto"))),
        ],
    )
    if status != 0:
        raise RuntimeError(f"protoc ended with status {status}; its messages stand above")
    for package in [path for path in stubs.glob("*/**/") if path.parent != stubs]:
        (package / "__init__.py").touch()
        (package / "py.typed").touch()


def _plugin(name: str) -> str:
    """Find a protoc plugin: on PATH, or beside the interpreter that runs the build."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name) or (str(beside) if beside.exists() else None)
    if found is None:
        raise RuntimeError(f"{name} was not found: is mypy-protobuf among the build requirements?")
    return found
