"""The whole contract: `docs/reference/api.md` is written here from the protos and their comments.

.venv/bin/python tests/api_reference.py
"""

import re
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from grpc_tools import protoc

from wallet_payment.v1 import options_pb2 as options

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "reference" / "api.md"
PROTOS: Final = ROOT / "protos"

_REASON: Final = "ERROR_REASON_"
_FIELDS, _METHODS, _VALUES = (
    DescriptorProto.FIELD_FIELD_NUMBER,
    2,  # ServiceDescriptorProto.method
    EnumDescriptorProto.VALUE_FIELD_NUMBER,
)
_PACKAGE: Final = ".wallet_payment.v1."

Place = tuple[int, ...]
"""Where something stands in its file: numbers of fields and indexes, as protoc tells it."""


@cache
def files() -> tuple[FileDescriptorProto, ...]:
    """Return the contract's files with their comments, the service's own first."""
    with tempfile.TemporaryDirectory() as folder:
        described = Path(folder) / "described"
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={PROTOS}",
                f"--proto_path={Path(protoc.__file__).parent / '_proto'}",
                "--include_source_info",
                f"--descriptor_set_out={described}",
                *(str(proto) for proto in sorted(PROTOS.rglob("*.proto"))),
            ]
        )
        assert status == 0
        found = FileDescriptorSet.FromString(described.read_bytes()).file
    return tuple(sorted(found, key=lambda file: (not file.service, file.name)))


def comments_of_reasons() -> dict[str, str]:
    """Return the contract's comment on each reason for which a call is refused, on one line."""
    (file,) = [file for file in files() if file.name.endswith("/error_reason.proto")]
    told = _comments(file)
    return {
        value.name.removeprefix(_REASON): _one_line(told[FILE_ENUM, 0, _VALUES, index])
        for index, value in enumerate(file.enum_type[0].value)
        if value.number
    }


FILE_MESSAGE: Final = FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER
FILE_ENUM: Final = FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER
FILE_SERVICE: Final = FileDescriptorProto.SERVICE_FIELD_NUMBER


def page() -> str:
    """Return the whole page."""
    parts = [part for file in files() for part in (*_services(file), *_types(file))]
    return _TEXT + "\n".join(parts)


def _services(file: FileDescriptorProto) -> Iterator[str]:
    told = _comments(file)
    for index, service in enumerate(file.service):
        here = (FILE_SERVICE, index)
        yield f"## {service.name}\n\n{_prose(told[here])}"
        for number, method in enumerate(service.method):
            yield _method(method, told[*here, _METHODS, number])


def _method(method: MethodDescriptorProto, comment: str) -> str:
    stream = "a stream of " if method.server_streaming else ""
    scope = method.options.Extensions[options.required_scope]
    return (
        f"### {method.name}\n\n{_link(method.input_type)} to {stream}{_link(method.output_type)}; "
        f"scope `{scope}`.\n\n{_prose(comment)}"
    )


def _types(file: FileDescriptorProto) -> Iterator[str]:
    told = _comments(file)
    for index, message in enumerate(file.message_type):
        here = (FILE_MESSAGE, index)
        yield f"## {message.name}\n\n{_prose(told[here])}"
        if message.field:
            yield _fields(message, {n: told[*here, _FIELDS, n] for n in range(len(message.field))})
    for index, enum in enumerate(file.enum_type):
        yield f"## {enum.name}\n\n{_prose(told[FILE_ENUM, index])}"
        lines = ["| value | number | what it is |", "| --- | --- | --- |"]
        lines += [
            f"| `{value.name}` | {value.number} "
            f"| {_one_line(told[FILE_ENUM, index, _VALUES, number])} |"
            for number, value in enumerate(enum.value)
        ]
        yield "\n".join(lines) + "\n"


def _fields(message: DescriptorProto, comments: dict[int, str]) -> str:
    lines = ["| field | number | type | what it is |", "| --- | --- | --- | --- |"]
    for index, field in enumerate(message.field):
        name = f"`{field.name}`"
        if field.HasField("oneof_index"):
            name += f", of `{message.oneof_decl[field.oneof_index].name}`"
        kind = _kind(message, field)
        lines.append(f"| {name} | {field.number} | {kind} | {_one_line(comments[index])} |")
    return "\n".join(lines) + "\n"


def _kind(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    for entry in message.nested_type:
        if entry.options.map_entry and field.type_name.endswith(f".{entry.name}"):
            return "map of " + " to ".join(_kind(entry, part) for part in entry.field)
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.type_name:
        kind = _link(field.type_name)
    is_repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    return f"repeated {kind}" if is_repeated else kind


def _link(type_name: str) -> str:
    name = type_name.removeprefix(_PACKAGE)
    return f"`{name.removeprefix('.')}`" if name == type_name else f"[{name}](#{name.lower()})"


def _comments(file: FileDescriptorProto) -> dict[Place, str]:
    """Return what stands before each thing of a file."""
    return {
        tuple(location.path): dedent(location.leading_comments)
        for location in file.source_code_info.location
    }


def _prose(comment: str) -> str:
    """Return a comment as Markdown: a line over an indented part is its title."""
    lines = comment.strip("\n").split("\n")
    titled = [
        f"**{line.strip()}**\n"
        if line and not line.startswith(" ") and after.startswith("  ")
        else line.strip()
        for line, after in zip(lines, [*lines[1:], ""], strict=True)
    ]
    return _escaped("\n".join(titled)) + "\n"


def _one_line(comment: str) -> str:
    """Return a comment for a cell of a table."""
    return _escaped(" ".join(comment.split())).replace("|", r"\|")


def _escaped(text: str) -> str:
    """Keep what looks like HTML from being taken for it, outside of code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("<", r"\<") for part in parts)


_TEXT: Final = """\
# Every call

Written by `tests/api_reference.py` from the comments in `protos/wallet_payment/v1`; a test fails
where this page says something else. Why a call may be refused: [errors](errors.md).

"""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
