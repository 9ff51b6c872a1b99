"""The pages of reference say what the code says, and leave nothing out."""

import re
from types import ModuleType

import pytest

import api_reference
import command_line_reference
import errors_reference
import settings_reference
from server.cli.main import cli
from server.config import Settings
from server.rpc.errors import STATUS_CODES
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

PAGES = (api_reference, command_line_reference, errors_reference, settings_reference)


@pytest.mark.parametrize("reference", PAGES, ids=lambda module: module.PAGE.name)
def test_a_page_is_what_the_code_says(reference: ModuleType) -> None:
    """It is written from the code. Where this fails, write it anew and look."""
    assert reference.PAGE.read_text("utf-8") == reference.page(), "make reference"


def test_every_setting_stands_there_once() -> None:
    """No group is left out, and none tells what belongs to another."""
    found = re.findall(r"^\| `(WALLET_\w+)` \|", settings_reference.page(), re.MULTILINE)

    assert sorted(found) == sorted(settings_reference.variables())
    assert len(found) == len(Settings.model_fields)


def test_a_secret_is_told_as_one_and_a_range_with_its_ends() -> None:
    """What an operator has to know before they set it."""
    rows = dict(
        re.findall(r"^\| `(WALLET_\w+)` \| .* \| (.*) \|$", settings_reference.page(), re.MULTILINE)
    )

    assert rows["WALLET_RAZORPAY_WEBHOOK_SECRETS"] == "**secret**: a list"
    assert rows["WALLET_RAZORPAY_KEY_ID"] == "text"
    assert rows["WALLET_WORKERS"] == "a whole number, 1 to 64"
    assert rows["WALLET_LOG_FORMAT"] == "`auto` or `json` or `console`"
    assert {name for name, takes in rows.items() if takes.startswith("**secret**")} == {
        f"WALLET_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }


def test_every_reason_stands_there_with_its_metadata() -> None:
    """The keys are those of every place that refuses, also where they are added step by step."""
    found = re.findall(r"^\| `([A-Z_]+)` \|", errors_reference.page(), re.MULTILINE)
    keys = errors_reference.metadata_keys()

    assert sorted(found) == sorted(STATUS_CODES)
    assert "missing_minor_units" in keys["INSUFFICIENT_FUNDS"]
    assert keys["ORDER_ALREADY_PAID"] == {"order_id", "customer_id", "transaction_id"}
    assert "remaining_minor_units" in keys["REFUND_EXCEEDS_PAYMENT"]
    assert "mismatch" in keys["ORDER_MISMATCH"]
    assert keys["SCOPE_MISSING"] == {"scope", "caller"}
    assert keys["TOKEN_MISSING"] == frozenset()


def test_every_method_message_and_enum_stands_there() -> None:
    """Each has its heading, each method its scope, and nothing lacks a comment."""
    page = api_reference.page()
    headings = set(re.findall(r"^#+ (\w+)$", page, re.MULTILINE))

    for file in (service.DESCRIPTOR, resources.DESCRIPTOR):
        assert headings >= {*file.message_types_by_name, *file.enum_types_by_name}
    methods = service.DESCRIPTOR.services_by_name["WalletPaymentService"].methods_by_name
    assert headings >= set(methods)
    assert page.count("; scope `") == len(methods)
    assert "|  |\n" not in page


def test_every_command_stands_there() -> None:
    """Each that the help shows has its heading, with those of its groups."""
    headings = re.findall(r"^## wallet-payment (.*)$", command_line_reference.page(), re.MULTILINE)

    shown = {name for name, command in cli.commands.items() if not command.hidden}
    assert {heading.split()[0] for heading in headings} == shown
    assert "books verify" in headings
    assert len(headings) == len(set(headings))
