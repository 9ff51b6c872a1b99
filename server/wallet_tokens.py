"""Wallets' tokens: verified here, tied to one top-up, and handed on to the gateway once.

A token is as good as money, so that three things come before the gateway has it: its wallet's
signatures hold; the ledger ties its digest to this top-up and no other; and the gateway is asked
whether a payment of the order is there already. After a lost answer nothing is handed on again
before the gateway has had the time to show what it took. The token itself is kept nowhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from gateway_adapters.gateway import (
    Gateway,
    GatewayError,
    GatewayRefused,
    GatewayUnavailable,
    LookupProof,
    NotImplementedHere,
    PaymentReport,
    ProofInvalid,
    TokenGateway,
    TokenVerifier,
    WalletToken,
)
from server.commit.committer import Submitter
from server.commit.errors import CommitError, Rejected
from server.ledger.commands import ClaimToken, ReleaseToken
from server.ledger.decisions import TokenReply
from server.ledger.records import (
    EventOrigin,
    GatewayPaymentStatus,
    ReceivedEvent,
    TokenClaim,
    Topup,
)
from server.ledger.tokens import TOKEN_WAIT_MS, not_payable

CLAIM_EVENT: Final = "token.claimed"

_log: structlog.stdlib.BoundLogger = structlog.get_logger("wallet_tokens")


@dataclass(frozen=True, slots=True)
class GoodToken:
    """A token that its wallet has made, and that fits the top-up and its gateway."""

    gateway: TokenGateway
    topup: Topup
    token: WalletToken
    digest: str
    """SHA-256, hex, of what the wallet signed."""


class WalletTokens:
    """Takes the tokens of the wallets that are set up here."""

    def __init__(
        self,
        committer: Submitter,
        verifiers: Mapping[str, TokenVerifier],
        now_ms: Callable[[], int],
    ) -> None:
        """`verifiers` are found by their payment methods."""
        self._committer = committer
        self._verifiers = verifiers
        self._now_ms = now_ms

    async def verified(self, gateway: Gateway, topup: Topup, token: WalletToken) -> GoodToken:
        """Refuse what does not fit, then verify the token; nothing is recorded yet.

        Raises:
            GatewayError: ProofInvalid, NotImplementedHere or GatewayUnavailable; Rejected.
        """
        if not isinstance(gateway, TokenGateway):
            raise ProofInvalid(
                f"The top-up is paid through {gateway.name}, which is handed no token from here. "
                "Ask for a lookup."
            )
        gateway.check_token(topup, token)
        if not topup.is_payable:
            raise Rejected(not_payable(topup))
        verifier = self._verifiers.get(token.method)
        if verifier is None:
            raise NotImplementedHere(
                f"Tokens of {token.method} are not taken here: it is not set up on this server."
            )
        return GoodToken(gateway, topup, token, await verifier.verify(token.token))

    async def pay(self, good: GoodToken) -> PaymentReport:
        """Claim the token and hand it on; return the payment of the order as it then is.

        Raises:
            GatewayError, CommitError: Rejected where the token was used for another top-up.
        """
        reply = await self._claim(good)
        if reply.claim is TokenClaim.WAITING:
            return await self._shown(good.gateway, reply.topup)
        try:
            report = await good.gateway.check_proof(reply.topup, LookupProof())
        except GatewayError:
            await self._release(reply.topup)
            raise
        has_failed = report is not None and report.payment.status is GatewayPaymentStatus.FAILED
        # What failed was paid with an earlier token, if this one is new.
        if report is None or (has_failed and reply.claim is TokenClaim.NEW):
            try:
                report = await good.gateway.pay_with_token(reply.topup, good.token)
            except GatewayRefused:
                await self._release(reply.topup)
                raise
        await self._release(reply.topup)
        return report

    async def _claim(self, good: GoodToken) -> TokenReply:
        """Tie the token to the top-up, by its digest alone."""
        now_ms = self._now_ms()
        event = ReceivedEvent(
            gateway=good.token.method,
            event_id=f"sha256:{good.digest}",
            event_type=CLAIM_EVENT,
            body_digest=good.digest,
            body=b"",
            origin=EventOrigin.PROOF,
            receive_time_ms=now_ms,
            report_time_ms=now_ms,
        )
        command = ClaimToken(good.topup.customer_id, good.topup.topup_id, event)
        reply = await self._committer.submit(command)
        assert isinstance(reply, TokenReply)  # noqa: S101 - what this command replies
        return reply

    async def _shown(self, gateway: TokenGateway, topup: Topup) -> PaymentReport:
        """Return what the gateway shows already of a token that is on its way."""
        report = await gateway.check_proof(topup, LookupProof())
        if report is None or report.payment.status is GatewayPaymentStatus.FAILED:
            raise GatewayUnavailable(
                "A token for this top-up was handed on a moment ago, and the gateway does not show "
                "its payment yet.",
                max(1.0, (topup.token_time_ms + TOKEN_WAIT_MS - self._now_ms()) / 1_000),
            )
        return report

    async def _release(self, topup: Topup) -> None:
        """Note that the gateway has answered; where that fails, the next token has to wait."""
        command = ReleaseToken(topup.customer_id, topup.topup_id, topup.token_time_ms)
        try:
            await self._committer.submit(command)
        except CommitError as error:
            _log.warning("not released", topup_id=topup.topup_id, cause=type(error).__name__)
