"""The mutations: small changes of a module, each of which some test should notice."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
MODULES: Final = (
    *("agreement", "chain", "decide", "money", "orders", "payments", "posting", "reversals"),
    "topups",
)
"""What decides about money, and what proves it."""
_EXPLAINED: Final = ROOT / "docs" / "concepts" / "mutation.md"

_COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.RShift: ast.LShift,
}
_TURNED: Final = {"max": "min", "min": "max", "any": "all", "all": "any"}
_PARTS_CAN_BE_LEFT_OUT: Final = frozenset({"replace", "Changes", "Cause"})

Change = tuple[str, str, ast.AST]
"""What it was, what it is, both as text, and the changed node."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change of one place of a module."""

    name: str
    """Module, place, what it was and what it is: the same as long as that code is the same."""
    module: str
    scope: str
    """The function, method or constant that it is in, as in `State.apply`."""
    tree: ast.Module
    node: ast.AST
    changed: ast.AST

    def mutated(self) -> ast.Module:
        """Change the tree, which is the same one for all mutants of a module, and return it."""
        _Changing(self.node, self.changed).visit(self.tree)
        return ast.fix_missing_locations(self.tree)


def mutants() -> Iterator[Mutant]:
    """Go through all mutants of the ledger."""
    for name in MODULES:
        file = ROOT / "server" / "ledger" / f"{name}.py"
        yield from mutants_of(name, file.read_text("utf-8"))


def names_explained() -> set[str]:
    """Return the names of the mutants that the page explains."""
    return set(re.findall(r"^\* `(.+?)`: ", _EXPLAINED.read_text("utf-8"), re.MULTILINE))


def mutants_of(module: str, source: str) -> Iterator[Mutant]:
    """Go through all mutants of a module; a name that comes again gets a number."""
    tree = ast.parse(source)
    seen: Counter[str] = Counter()
    for statement in tree.body:
        for scope, node in _scoped(statement, ""):
            for before, after, changed in _changes(node):
                name = " ".join(f"{module} {scope}: {before} -> {after}".split())
                seen[name] += 1
                number = f" #{seen[name]}" if seen[name] > 1 else ""
                yield Mutant(name + number, module, scope, tree, node, changed)


class _Changing(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, node: ast.AST, changed: ast.AST) -> None:
        self._node = node
        self._changed = changed

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self._node:
            return ast.copy_location(self._changed, node)
        return super().generic_visit(node)


def _scoped(statement: ast.stmt, prefix: str) -> Iterator[tuple[str, ast.AST]]:
    """Go through what a statement carries out, beside the name of what it defines."""
    match statement:
        case ast.ClassDef():
            for inner in statement.body:
                if isinstance(inner, ast.FunctionDef):
                    yield from _scoped(inner, f"{statement.name}.")
        case ast.FunctionDef():
            for inner in statement.body:
                yield from ((prefix + statement.name, node) for node in _carried_out(inner))
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            if statement.value is not None:
                yield from ((name, node) for node in _carried_out(statement.value))


def _carried_out(node: ast.AST) -> Iterator[ast.AST]:
    """Go through a node and all below it but type hints."""
    yield node
    for field, below in ast.iter_fields(node):
        if field not in {"annotation", "returns", "args"} or isinstance(node, ast.Call):
            for child in below if isinstance(below, list) else [below]:
                if isinstance(child, ast.AST):
                    yield from _carried_out(child)


def _changes(node: ast.AST) -> Iterator[Change]:
    """Return what a node can become."""
    if isinstance(node, ast.stmt):
        yield from _of_statement(node)
    elif isinstance(node, ast.Call):
        yield from _of_call(node)
    elif isinstance(node, ast.expr):
        yield from _of_condition(node)
        yield from _of_figure(node)


def _of_statement(node: ast.stmt) -> Iterator[Change]:
    match node:
        case ast.If(test, body, other) if not _is_turned_itself(test):
            text = ast.unparse(test)
            turned = ast.If(ast.UnaryOp(ast.Not(), test), body, other)
            yield f"if {text}", f"if not ({text})", turned
        case ast.Expr(ast.Call() | ast.Yield() | ast.YieldFrom()):
            yield ast.unparse(node), "nothing", ast.Pass()
        case ast.Assign([ast.Subscript() | ast.Attribute()]):
            yield ast.unparse(node), "nothing", ast.Pass()
        case ast.AugAssign(target, operator, value):
            yield ast.unparse(node), "nothing", ast.Pass()
            if type(operator) in _ARITHMETIC:
                yield _told(node, ast.AugAssign(target, _ARITHMETIC[type(operator)](), value))


def _of_call(node: ast.Call) -> Iterator[Change]:
    match node:
        case ast.Call(ast.Name(id=name), arguments, keywords) if name in _TURNED:
            turned = ast.Call(ast.Name(_TURNED[name], ast.Load()), arguments, keywords)
            yield _told(node, turned)
        case ast.Call(ast.Name(id=name), arguments, keywords) if name in _PARTS_CAN_BE_LEFT_OUT:
            for place, keyword in enumerate(keywords):
                left = ast.Call(node.func, arguments, keywords[:place] + keywords[place + 1 :])
                yield f"{name}({ast.unparse(keyword)})", f"{name}()", left


def _of_condition(node: ast.expr) -> Iterator[Change]:
    match node:
        case ast.Compare(left, operators, comparators):
            for place, operator in enumerate(operators):
                other = _COMPARISONS[type(operator)]()
                changed = [*operators[:place], other, *operators[place + 1 :]]
                yield _told(node, ast.Compare(left, changed, comparators))
        case ast.BoolOp(operator, values):
            turned = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield _told(node, ast.BoolOp(turned, values))
        case ast.UnaryOp(ast.Not(), operand):
            yield _told(node, operand)
        case ast.IfExp(test, body, other) if not _is_turned_itself(test):
            yield _told(node, ast.IfExp(test, other, body))


def _of_figure(node: ast.expr) -> Iterator[Change]:
    match node:
        case ast.UnaryOp(ast.USub(), operand):
            yield _told(node, operand)
        case ast.BinOp(left, operator, right) if type(operator) in _ARITHMETIC:
            yield _told(node, ast.BinOp(left, _ARITHMETIC[type(operator)](), right))
        case ast.Constant(bool(value)):
            yield _told(node, ast.Constant(not value))
        case ast.Constant(int(value)):
            yield _told(node, ast.Constant(value + 1))
        case ast.Set([_, _, *_] as parts):
            for place, part in enumerate(parts):
                fewer = ast.Set(parts[:place] + parts[place + 1 :])
                yield f"{{{ast.unparse(part)}}}", "{}", fewer


def _is_turned_itself(test: ast.expr) -> bool:
    """Tell whether a condition's own mutant is its contrary."""
    match test:
        case ast.Compare(ops=[ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE()]):
            return False
        case ast.Compare(ops=[_]) | ast.UnaryOp(ast.Not()):
            return True
    return False


def _told(node: ast.AST, changed: ast.AST) -> Change:
    return ast.unparse(node), ast.unparse(changed), changed
