"""The ledger core: every rule of money, as pure functions over frozen data.

Nothing here does I/O, reads a clock, draws a random number or awaits. Start with `decide`.
"""
