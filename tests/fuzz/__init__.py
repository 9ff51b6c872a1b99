"""Fuzzing: whatever comes from outside is taken or refused as documented, and nothing else happens.

A target takes bytes; `make fuzz` lets coverage guide what they are, and `test_fuzz.py` draws a few.
"""
