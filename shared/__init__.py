"""What producers and workers agree on: states, rules, the ledger and its keys. Imports nothing of ours above it."""

import logging

# A library does not write to the terminal of a program that set up no logging.
logging.getLogger("baton").addHandler(logging.NullHandler())
