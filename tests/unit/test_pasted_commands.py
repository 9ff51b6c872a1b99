"""Every command in the documents is run by a test, or says why not."""

from pathlib import Path
from typing import Final

import pytest

from pasted import blocks_of, commands_in, reasons_of
from running_up import ROOT

RUN_BY: Final = {
    "README.md": "e2e/test_readme.py",
    "docs/guides/first-hour.md": "e2e/test_guides.py",
    "docs/guides/integrate-the-order-service.md": "e2e/test_order_service_guide.py",
    "docs/guides/google-and-apple-pay.md": "e2e/test_readme.py",
    "docs/guides/migrate-wallets.md": "e2e/test_guides.py",
    "docs/guides/pay-by-upi.md": "e2e/test_guides.py",
    "docs/guides/rotate-secrets.md": "e2e/test_guides.py",
    "docs/guides/rotate-token-keys.md": "e2e/test_token_key_guide.py",
    "docs/guides/sandbox.md": "e2e/test_sandbox_guide.py",
    "docs/operation/audit.md": "e2e/test_guides.py",
    "docs/operation/backup.md": "e2e/test_operation_pages.py",
    "docs/operation/books.md": "e2e/test_operation_pages.py",
    "docs/operation/command-line.md": "e2e/test_readme.py",
    "docs/operation/deployment.md": "e2e/test_operation_pages.py",
    "docs/operation/encryption.md": "e2e/test_operation_pages.py",
    "docs/operation/rate-limits.md": "e2e/test_guides.py",
    "docs/operation/running.md": "e2e/test_readme.py",
    "docs/operation/troubleshooting.md": "e2e/test_operation_pages.py",
    "docs/operation/upgrade.md": "e2e/test_operation_pages.py",
}
"""The test that runs a page's commands, all of them but for those that say why not."""

PAGES: Final = sorted(
    str(page.relative_to(ROOT))
    for place in (".", "docs/**", "clients/**")
    for page in ROOT.glob(f"{place}/*.md")
)


@pytest.mark.parametrize("page", [page for page in PAGES if commands_in(page)])
def test_the_commands_of_a_page_are_run_or_say_why_not(page: str) -> None:
    """A block that no test runs, marked as bash or not, has a comment before it with the reason."""
    assert len(blocks_of(page)) + len(reasons_of(page)) == len(commands_in(page))
    assert all(len(reason.split()) > 2 for reason in reasons_of(page))
    assert not blocks_of(page) or page in RUN_BY, f"no test runs the commands of {page}"


@pytest.mark.parametrize("page", RUN_BY)
def test_the_test_that_runs_a_page_is_there_and_names_it(page: str) -> None:
    """Nothing stands in the table that is not so."""
    assert Path(page).stem in (ROOT / "tests" / RUN_BY[page]).read_text("utf-8")
    assert blocks_of(page), f"{page} has nothing to run"
