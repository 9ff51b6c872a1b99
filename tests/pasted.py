"""What the documents give to paste: the commands of a page, as a test runs them."""

import re
from typing import Final

from running_up import ROOT

_NOT_RUN: Final = "<!-- not run by a test: "
_BLOCK: Final = re.compile(
    r"^(?P<comment><!-- [^\n]* -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_PROGRAM: Final = re.compile(
    r"^(?:\$ |(?:cd|cp|curl|docker|echo|export|git|grpcurl|kubectl|make|mkdir|node|npm|openssl|pip"
    r"|python3?|wallet-payment) )",
    re.MULTILINE,
)
"""How a line begins that somebody would paste, in a block that does not say what it is."""


def blocks_of(document: str) -> list[str]:
    """Return what a document gives to paste, but for what it says that no test runs."""
    return [
        block["text"]
        for block in _commands_of(document)
        if block["language"] == "bash" and not _reason_of(block)
    ]


def reasons_of(document: str) -> list[str]:
    """Return why a document's other commands are run by no test."""
    return [reason for block in _commands_of(document) if (reason := _reason_of(block))]


def commands_in(document: str) -> list[str]:
    """Return every block with commands, however it is marked, run or not."""
    return [block["text"] for block in _commands_of(document)]


def _commands_of(document: str) -> list[re.Match[str]]:
    return [
        block
        for block in _BLOCK.finditer((ROOT / document).read_text("utf-8"))
        if block["language"] == "bash"
        or (block["language"] in {"", "console", "sh", "shell"} and _PROGRAM.search(block["text"]))
    ]


def _reason_of(block: re.Match[str]) -> str:
    comment = block["comment"] or ""
    if not comment.startswith(_NOT_RUN):
        return ""
    return comment.removeprefix(_NOT_RUN).removesuffix(" -->\n")
