"""The bodies of every peer's tasks. Standard library only: it is imported in each peer's own environment."""

import os
import time
from pathlib import Path

URL = os.environ.get("BENCH_REDIS", "")
"""The server that is measured on."""


def noop() -> int:
    """Nothing. Gives a number, since some keep no result of None."""
    return 1


def echo(text: str) -> str:
    """The text as it came."""
    return text


def keep(text: str) -> int:
    """Takes a text."""
    return len(text)


def mark() -> int:
    """Notes the time: the first and the last run of a queue do, between them lies what is measured."""
    with Path(os.environ["BENCH_MARKS"]).open("a") as marks:
        marks.write(f"{time.time()}\n")
    return 1
