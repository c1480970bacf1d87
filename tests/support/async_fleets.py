"""Fleets with async slots, for tests."""

from typing import Any

from tests.support.fleets import Fleet, Fleets, starts
from tests.support.waiting import eventually

MODULE = "tests.end_to_end.async_bodies"
HOOKED = "tests.end_to_end.async_hooked"


def with_slots(fleet: Fleets, slots: int, *options: str, **how: Any) -> Fleet:
    """A fleet of one process with so many slots."""
    return fleet("--async-slots", str(slots), "-m", HOOKED, *options, module=MODULE, **how)


def in_their_bodies(workers: Fleet, *run_ids: str) -> None:
    """Wait until the bodies of all these runs have begun."""
    eventually(lambda: all(starts(workers.body_log(), run_id) for run_id in run_ids))
