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
        default=2.5,
        ge=0,
        le=86_400,
        description="How long the proof of the books, which goes on all the time, rests after each "
        "250 records; all servers share one. 0: nothing is proven beside the calls.",
    )
    otlp_endpoint: str = Field(
        default="",
        pattern="^(https?://[^ @]+)?$",
        description="Where traces go, by OTLP over gRPC: http://collector:4317, or https://. It "
        "needs the extra wallet-payment[tracing]. Empty: nothing is traced.",
    )
    trace_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="The share of traces that is recorded; callers decide about those they begin.",
    )
