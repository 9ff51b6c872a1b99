"""Settings of how the service is watched."""

from pydantic import Field
from pydantic_settings import BaseSettings


class WatchSettings(BaseSettings):
    """What is read and proven beside the calls."""

    watch_interval_seconds: float = Field(
        default=15.0,
        ge=0.05,
        le=3_600,
        description="How often is read how the records stand: what is pending, what waits for "
        "review, what the proof of the books says.",
    )
    proof_interval_seconds: float = Field(
        default=10.0,
        ge=0,
        le=86_400,
        description="How long the proof of the books, which goes on all the time, rests after each "
        "1,000 records; all servers share one. 0: nothing is proven beside the calls.",
    )
