"""The checkout page as HTML: everything in it is escaped, and it loads nothing from anywhere."""

import secrets
from html import escape
from http import HTTPStatus
from importlib.resources import files
from string import Template
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from gateway_adapters.sandbox.checkout.payable import Payable
from gateway_adapters.sandbox.checkout.stage import PASSING, PAYABLE, WORDS, Stage, Words

_NO_ORDER: Final = Words(
    "There is no such order.",
    "The link is not one of this sandbox, or its data was removed. Start another top-up.",
)
_NOWHERE: Final = "nowhere"
"""The stage of an order that there is not."""


def _part(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")


_PAGE: Final = Template(_part("page.html"))
_STYLE: Final = _part("page.css")
_SCRIPT: Final = _part("page.js")


def order_page(gateway: str, payable: Payable, stage: Stage) -> web.Response:
    """Return the page of an order."""
    words = WORDS[stage]
    rows = [_row("Gateway", f"{gateway} sandbox"), _row("Paid to", "Sandbox merchant")]
    if payable.paid_amount not in {"", payable.amount}:
        rows.append(_row("Was paid", payable.paid_amount))
    if payable.topup_id:
        rows.append(_row("Top-up", payable.topup_id, "id"))
    rows.append(_row("Order", payable.order_id, "id"))
    content = [_heading(payable.amount), _status(words), f"<dl>{''.join(rows)}</dl>"]
    if stage in PAYABLE:
        content.append(_choices(payable))
    if stage in PASSING:
        content.append(_link("", "Look again"))
    if stage not in PAYABLE and stage not in PASSING:
        content.append(_way_back(payable.return_url))
    return _response(HTTPStatus.OK, f"{words.heading} {payable.amount}", stage, content)


def unknown_order_page() -> web.Response:
    """Return the page of an order that there is not."""
    content = [_heading("Nothing to pay"), _status(_NO_ORDER)]
    return _response(HTTPStatus.NOT_FOUND, _NO_ORDER.heading, _NOWHERE, content)


def _response(status: HTTPStatus, title: str, stage: str, content: list[str]) -> web.Response:
    nonce = secrets.token_urlsafe(16)
    text = _PAGE.substitute(
        nonce=nonce,
        title=escape(title),
        stage=stage,
        is_passing="true" if stage in PASSING else "false",
        content="\n".join(content),
        style=_STYLE,
        script=_SCRIPT,
    )
    return web.Response(
        status=status,
        text=text,
        content_type="text/html",
        charset="utf-8",
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": (
                "default-src 'none'; connect-src 'self'; form-action 'self'; img-src data:; "
                f"script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
                "base-uri 'none'; frame-ancestors 'none'"
            ),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _heading(text: str) -> str:
    return f"<h1>{escape(text)}</h1>"


def _status(words: Words) -> str:
    return (
        f'<div class="status" role="status"><strong>{escape(words.heading)}</strong>\n'
        f"<p>{escape(words.text)}</p></div>"
    )


def _row(name: str, value: str, kind: str = "text") -> str:
    return f'<div><dt>{escape(name)}</dt><dd class="{kind}">{escape(value)}</dd></div>'


def _choices(payable: Payable) -> str:
    return _choice(payable.order_id, "pay", f"Pay {payable.amount}", "Paying") + _choice(
        payable.order_id, "fail", "Fail the payment", "Failing"
    )


def _choice(order_id: str, action: str, label: str, progress: str) -> str:
    path = escape(f"/checkout/{order_id}/{action}")
    return (
        f'<form method="post" action="{path}" data-progress="{progress}…">'
        f'<button class="{action}">{escape(label)}</button></form>'
    )


def _way_back(return_url: str) -> str:
    """Return the link back to the merchant; nothing else than a web page is linked to."""
    parts = urlsplit(return_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return ""
    return _link(return_url, f"Back to {parts.hostname}")


def _link(url: str, label: str) -> str:
    return f'<a class="onward" href="{escape(url)}" rel="noreferrer">{escape(label)}</a>'
