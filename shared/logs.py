"""Logging of Baton's own processes: they set up the logger `baton`. Never touches the root logger."""

import logging
import sys
from typing import TextIO

LEVELS = {"quiet": logging.WARNING, "normal": logging.INFO, "verbose": logging.DEBUG}


class _Lines(logging.Formatter):
    """A line each, which says the run that it is about if it is about one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        line = super().formatMessage(record)
        run_id = getattr(record, "run_id", None)
        return line if run_id is None else f"{line} (run {run_id})"


def set_up(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Write what Baton says to `stream` (default: stderr), one line each."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Lines("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logger = logging.getLogger("baton")
    logger.handlers = [handler]
    logger.setLevel(level)
    # What the engine says of every good end would drown all the rest.
    logging.getLogger("baton.engine").setLevel(logging.WARNING if level == logging.INFO else level)
    logger.propagate = False
