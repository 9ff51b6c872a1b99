"""Secrets are compared in constant time: nowhere in the code does `==` look at one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway_adapters
import server

ROOTS = [Path(package.__file__ or "").parent for package in (server, gateway_adapters)]
SECRET = re.compile(
    r"secret|password|signature|hmac|(^|_)mac$|(^|_)tag$|token$|authorization|credential|"
    r"private_key|api_key|nonce"
)
"""Names of values that an attacker would like to find out by how long a comparison takes."""
NOT_SECRET = {
    ("gateway_adapters/sandbox/paypal.py", "token not in self.tokens"): "the sandbox's own, "
    "random and looked up by its hash; it protects nothing",
}
"""(module, comparison) -> why it may stand."""


def name_of(node: ast.expr) -> str:
    """Return the last name of an expression: of a call that of the function."""
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(_, name):
            return name
        case ast.Call(function, _):
            return name_of(function)
        case ast.Subscript(value, ast.Constant(str() as key)):
            return f"{name_of(value)}.{key}"
        case ast.Subscript(value, _):
            return name_of(value)
        case ast.Await(value):
            return name_of(value)
    return ""


def is_plain(node: ast.expr) -> bool:
    """Tell whether an operand is a literal of the code: to compare with it tells nothing."""
    match node:
        case ast.Constant():
            return True
        case ast.Tuple(parts) | ast.Set(parts) | ast.List(parts):
            return all(is_plain(part) for part in parts)
    return False


def unsafe_comparisons(source: str) -> Iterator[str]:
    """Find comparisons of secrets with `==`, `!=`, `in` and `not in`."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        operands = [node.left, *node.comparators]
        is_of_values = any(
            isinstance(one, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for one in node.ops
        )
        is_of_a_literal = any(is_plain(operand) for operand in operands)
        is_of_a_secret = any(SECRET.search(name_of(operand).lower()) for operand in operands)
        if is_of_values and is_of_a_secret and not is_of_a_literal:
            yield ast.unparse(node)


def found() -> set[tuple[str, str]]:
    """Return all unsafe comparisons of the code."""
    return {
        (f"{root.name}/{file.relative_to(root)}", comparison)
        for root in ROOTS
        for file in sorted(root.rglob("*.py"))
        for comparison in unsafe_comparisons(file.read_text())
    }


def test_no_secret_is_compared_in_a_time_that_tells_something() -> None:
    """`hmac.compare_digest` compares; what stands otherwise is named here with its reason."""
    assert found() == NOT_SECRET.keys()


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ("signature == expected", True),
        ("expected != request.signature", True),
        ("given in self._secrets", True),
        ("headers['x-signature'] == sign(body, secret)", True),
        ("self.webhook_signature(body) == given", True),
        ("hmac.compare_digest(signature, expected)", False),
        ("signature == ''", False),
        ("count == limit", False),
        ("token is None", False),
    ],
)
def test_a_comparison_of_a_secret_would_be_found(source: str, is_found: bool) -> None:
    """The search above sees what it should, and nothing else."""
    assert bool(list(unsafe_comparisons(source))) is is_found
