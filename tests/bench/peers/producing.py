"""The producer's side of every workload, the same for all: `python producing.py ADAPTER WORKLOAD RUNS`, prints JSON.

Standard library only. An adapter is a module beside this one with the tasks `noop`, `echo`, `keep` and `mark`, and

    session()                   a context in which tasks can be submitted
    submit(task, *args)         submit a run; its handle
    submit_many(task, rows)     submit a run for each row of arguments, with one call where there is one; their handles
    results(handles)            wait for all of them; their results in order
"""

import importlib
import json
import statistics
import sys
import time
from types import ModuleType

TEXT = "x" * 285
"""With its name and its envelope about 300 bytes."""
LARGE = "x" * 100_000
LARGE_RUNS = 200
FAN_OUT = 1000
Figures = dict[str, float]


def submits(peer: ModuleType, runs: int) -> Figures:
    """How many runs a second are submitted, one at a time and together."""
    peer.submit(peer.noop)
    began = time.perf_counter()
    for _ in range(runs):
        peer.submit(peer.noop)
    between = time.perf_counter()
    peer.submit_many(peer.noop, [()] * runs)
    return {"submit": runs / (between - began), "bulk": runs / (time.perf_counter() - between)}


def queue_noops(peer: ModuleType, runs: int) -> Figures:
    """Queue so many runs between two marks."""
    return _queue(peer, peer.noop, [()] * runs)


def queue_texts(peer: ModuleType, runs: int) -> Figures:
    """Queue so many runs with 300 bytes of parameters between two marks."""
    return _queue(peer, peer.keep, [(TEXT,)] * runs)


def warm(peer: ModuleType, runs: int) -> Figures:
    """Wait for so many runs, that workers have everything loaded."""
    peer.results(peer.submit_many(peer.noop, [()] * runs))
    return {}


def waits(peer: ModuleType, runs: int) -> Figures:
    """How long a producer waits for results of an idle worker."""
    warm(peer, 10)
    took = sorted(_round_trip(peer) for _ in range(runs))
    began = time.perf_counter()
    peer.results(peer.submit_many(peer.noop, [()] * FAN_OUT))
    between = time.perf_counter()
    texts = peer.results(peer.submit_many(peer.echo, [(LARGE,)] * LARGE_RUNS))
    ended = time.perf_counter()
    if texts != [LARGE] * LARGE_RUNS:
        raise AssertionError("the texts came back as others")
    return {
        "p50": statistics.median(took) * 1000,
        "p99": took[int(len(took) * 0.99)] * 1000,
        "fan-out": (between - began) * 1000,
        "large": LARGE_RUNS / (ended - between),
    }


def _queue(peer: ModuleType, task: object, rows: list[tuple[str, ...]]) -> Figures:
    peer.submit(peer.mark)
    peer.submit_many(task, rows)
    peer.submit(peer.mark)
    return {}


def _round_trip(peer: ModuleType) -> float:
    began = time.perf_counter()
    peer.results([peer.submit(peer.noop)])
    return time.perf_counter() - began


WORKLOADS = {act.__name__: act for act in (submits, queue_noops, queue_texts, warm, waits)}


if __name__ == "__main__":
    adapter, workload, runs = sys.argv[1:]
    tested = importlib.import_module(adapter)
    with tested.session():
        figures = WORKLOADS[workload](tested, int(runs))
    sys.stdout.write(json.dumps(figures))
