"""The version of Baton, and of the layout it writes into Redis. Nothing else, so that reading it costs nothing."""

__version__ = "0.1.0"

# The layout counts what a Baton of another version could not read. A newer layout than this refuses to start.
LAYOUT = 1
