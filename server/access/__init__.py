"""What decides who may call: keys, revoked tokens, certificates; all renewed while it runs.

A renewal that cannot be used changes nothing: the last good one stays in force, with an alarm.
"""
