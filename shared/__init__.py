"""What producers and workers agree on: states, rules, the ledger and its keys. Imports nothing of ours above it."""
