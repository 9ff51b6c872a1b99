"""All targets, by name."""

from collections.abc import Mapping
from typing import Final

from fuzz import answers, requests, wallets, webhooks
from fuzz.target import Target

TARGETS: Final[Mapping[str, Target]] = {
    target.name: target
    for module in (webhooks, wallets, answers, requests)
    for target in module.targets()
}
