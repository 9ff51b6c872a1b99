"""What the documents give to paste: the commands of a page, as a test runs them."""

import re
from typing import Final

from running_up import ROOT

_NOT_RUN: Final = "<!-- not run by a test: "
_BLOCK: Final = re.compile(r"^(<!-- [^\n]* -->\n)?```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks_of(document: str) -> list[str]:
    """Return what a document gives to paste, but for what it says that no test runs."""
    found = _BLOCK.findall((ROOT / document).read_text("utf-8"))
    return [block for comment, block in found if not comment.startswith(_NOT_RUN)]


def reasons_of(document: str) -> list[str]:
    """Return why a document's other blocks are run by no test."""
    found = _BLOCK.findall((ROOT / document).read_text("utf-8"))
    comments = [comment for comment, _ in found if comment.startswith(_NOT_RUN)]
    return [comment.removeprefix(_NOT_RUN).removesuffix(" -->\n") for comment in comments]
