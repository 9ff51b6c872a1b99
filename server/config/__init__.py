"""Settings: environment variables, all checked at the start, each with its meaning.

One module for each group of settings; `settings` puts them together. A secret is never shown: not
in a repr, a log, an error, or by `wallet-payment config`.
"""

from server.config.settings import DEVELOPMENT_PREFIX, Settings, SettingsError, load_settings
from server.config.values import content_of, read_key_set

__all__ = [
    "DEVELOPMENT_PREFIX",
    "Settings",
    "SettingsError",
    "content_of",
    "load_settings",
    "read_key_set",
]
