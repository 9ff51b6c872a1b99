"""Workers: several server processes on one port; each wallet's commands have their place in one.

The supervisor starts them, starts them again when they die, and lets them finish at the end. A call
arrives at any of them; its command is carried out by the one that owns the customer (`peers`), so
that a wallet on which all are called never has them write against each other.
"""
