"""Settings of the work itself: how long a top-up lives, how much is committed at once."""

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from server.config.limits import read_limits
from server.ledger.limits import Limits


class WorkSettings(BaseSettings):
    """Times, processes and batches."""

    topup_lifetime_seconds: int = Field(
        default=1_800, ge=60, le=604_800, description="How long a customer has to pay a top-up."
    )
    poll_first_seconds: float = Field(
        default=60.0,
        ge=0.1,
        le=86_400,
        description="After how long the gateway is asked about a top-up that stays pending; each "
        "further time it waits twice as long, an hour at most.",
    )
    poll_interval_seconds: float = Field(
        default=5.0, ge=0.05, le=3_600, description="How often is looked for top-ups to ask about."
    )
    workers: int = Field(
        default=1, ge=1, le=64, description="Server processes on one port; `serve --workers`."
    )
    commit_lanes: int = Field(default=1, ge=1, le=64, description="Lanes of the commit path.")
    commit_max_batch: int = Field(
        default=256, ge=1, le=1_000, description="Commands in one transaction at most."
    )
    commit_max_queue: int = Field(
        default=4_096, ge=1, le=1_000_000, description="Commands that may wait at most."
    )
    events_max_readers: int = Field(
        default=32,
        ge=1,
        le=64,
        description="Calls of WatchEvents that one server process takes at once.",
    )
    events_heartbeat_seconds: float = Field(
        default=10.0,
        ge=0.1,
        le=3_600,
        description="How often a reader of events hears something where nothing happens.",
    )
    events_stream_seconds: float = Field(
        default=3_600.0,
        ge=0.1,
        le=86_400,
        description="How long a stream of events lasts; its reader then comes again, with a token "
        "that is good.",
    )
    events_slow_reader_seconds: float = Field(
        default=60.0,
        ge=0.1,
        le=3_600,
        description="How long a reader of events may take nothing before its stream is ended.",
    )
    limits: str = Field(
        default="",
        description="What wallets may take, hold and spend, by tier and currency: JSON, inline or "
        "as @/path/to/file. Empty: no limits.",
    )
    shutdown_grace_seconds: float = Field(
        default=5.0, ge=0, le=300, description="How long a stopping server lets calls finish."
    )

    @field_validator("limits")
    @classmethod
    def _readable_limits(cls, value: str) -> str:
        read_limits(value)
        return value

    def wallet_limits(self) -> Limits:
        """Return the limits of wallets."""
        return read_limits(self.limits)
