"""Mutation: the ledger is changed in one place after another, and some test has to notice it."""
