"""The mutants themselves; `make mutants` tries them."""

import ast

from mutation.mutations import MODULES, mutants, mutants_of, names_explained

SOURCE = """
LIMIT: Final = 5

def fits(amount: int, balance: int) -> bool:
    if amount > LIMIT:
        return False
    return amount <= balance and not is_frozen(balance)
"""
BOTH = "amount <= balance and (not is_frozen(balance))"
EITHER = "amount <= balance or not is_frozen(balance)"


def test_each_place_is_changed() -> None:
    """Comparisons, conditions, figures and constants have mutants of their own."""
    assert [mutant.name for mutant in mutants_of("sample", SOURCE)] == [
        "sample LIMIT: 5 -> 6",
        "sample fits: if amount > LIMIT -> if not (amount > LIMIT)",
        "sample fits: amount > LIMIT -> amount >= LIMIT",
        "sample fits: False -> True",
        f"sample fits: {BOTH} -> {EITHER}",
        "sample fits: amount <= balance -> amount < balance",
        "sample fits: not is_frozen(balance) -> is_frozen(balance)",
    ]


def test_a_mutant_changes_one_place_and_no_other_mutant() -> None:
    """Every mutant is a program of its own."""
    count = len(list(mutants_of("sample", SOURCE)))
    texts = [
        ast.unparse(list(mutants_of("sample", SOURCE))[place].mutated()) for place in range(count)
    ]
    assert len({*texts, ast.unparse(ast.parse(SOURCE))}) == len(texts) + 1


def test_every_mutant_has_a_name_of_its_own_and_every_explanation_a_mutant() -> None:
    """An explanation whose code has changed is noticed."""
    names = [mutant.name for mutant in mutants()]
    assert len(set(names)) == len(names)
    assert {name.split()[0] for name in names} == set(MODULES) - {"decide"}
    assert names_explained() - set(names) == set()
