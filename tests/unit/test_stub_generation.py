"""`buf generate` makes stubs for other languages: its template holds, with plugins of our own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
BIN: Final = Path(sys.executable).parent
TEMPLATE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "buf.gen.yaml").read_text("utf-8"))
PLUGIN: Final = f"""\
#!{sys.executable}
import sys
from google.protobuf.compiler import plugin_pb2 as plugin
request = plugin.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
answer = plugin.CodeGeneratorResponse(supported_features=1)
for file in request.proto_file:
    if file.name in request.file_to_generate:
        options = file.options
        told = [request.parameter, options.go_package, options.java_package]
        answer.file.add(name=file.name + sys.argv[0].rpartition("/")[2], content="|".join(told))
sys.stdout.buffer.write(answer.SerializeToString())
"""
"""In the place of a plugin that is not here: it tells what it was asked for."""
PROTOC: Final = f'#!/bin/sh\nexec {sys.executable} -m grpc_tools.protoc "$@"\n'


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    """What `buf generate` writes with the repository's template."""
    programs = tmp_path / "programs"
    programs.mkdir()
    wanted = {plugin["local"]: PLUGIN for plugin in TEMPLATE["plugins"] if "local" in plugin}
    # The protoc that Python has asks a plugin for the Java that another one would make itself.
    for name, text in {**wanted, "protoc": PROTOC, "protoc-gen-java": PLUGIN}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    subprocess.run(
        [BIN / "buf", "generate", "--output", tmp_path],
        check=True,
        cwd=ROOT,
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},
    )
    return tmp_path / "build"


def test_stubs_are_made_for_each_language(generated: Path) -> None:
    """TypeScript, Go and Java have their folders, and the packages that their compilers need."""
    proto = "wallet_payment/v1/resources.proto"

    assert {folder.name for folder in generated.iterdir()} == {
        f"stubs-{language}" for language in ("typescript", "go", "java")
    }
    of_typescript = (generated / f"stubs-typescript/{proto}protoc-gen-es").read_text()
    assert of_typescript.startswith("target=ts|")
    for plugin in ("protoc-gen-go", "protoc-gen-go-grpc"):
        parameter, go_package, _ = (generated / f"stubs-go/{proto}{plugin}").read_text().split("|")
        assert parameter == "paths=source_relative"
        assert go_package.startswith("example.com/wallet-payment/wallet_payment/v1")
    for plugin in ("protoc-gen-java", "protoc-gen-grpc-java"):
        told = (generated / f"stubs-java/{proto}{plugin}").read_text()
        assert told.endswith("|com.example.wallet_payment.v1")
