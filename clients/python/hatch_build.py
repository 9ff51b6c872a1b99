"""Build hook: generates the stubs of the contract into the client's own wheel.

The protos are the repository's, two folders up: the client is built from a checkout.
"""

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ClientStubsBuildHook(BuildHookInterface[Any]):
    """Runs the service's own generator, with this folder as its target."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate messages, services and their type hints."""
        del version, build_data
        here = Path(self.root)
        repository = here.parents[1]
        spec = importlib.util.spec_from_file_location("generator", repository / "hatch_build.py")
        if spec is None or spec.loader is None:
            raise RuntimeError("the client is built from a checkout of the whole repository")
        generator = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(generator)
        generator.generate(repository, here / "build" / "stubs")
