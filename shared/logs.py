"""Logging of Baton's own processes: they set up the logger `baton`. Never touches the root logger."""

import logging
import sys
from typing import TextIO

LEVELS = {"quiet": logging.WARNING, "normal": logging.INFO, "verbose": logging.DEBUG}


def set_up(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Write what Baton says to `stream` (default: stderr), one line each."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logger = logging.getLogger("baton")
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False
