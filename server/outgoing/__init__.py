"""Outgoing webhooks: the event feed, posted by the Standard Webhooks specification."""
