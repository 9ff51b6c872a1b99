"""The deterministic simulator: whole histories of the service, replayed exactly by their seed."""
