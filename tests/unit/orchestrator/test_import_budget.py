"""What a producer pays for `import orchestrator`: no library that it may not need, and a bounded time."""

import json

from tests.support.imports import told_after

DEAR = ("click", "cryptography", "fakeredis", "redis", "rich", "rq", "starlette", "watchfiles")
MOST = 2.8
"""Times of `import rq`, in time of the processor; 1.5 to 2.1 is usual."""


def seconds(module: str) -> float:
    return min(float(told_after(module, "time.process_time() - began")) for _ in range(5))


def test_a_producer_imports_no_client_no_terminal_and_no_web() -> None:
    what = f"__import__('json').dumps([name for name in {DEAR!r} if name in __import__('sys').modules])"
    assert json.loads(told_after("orchestrator", what)) == []


def test_the_import_stays_within_its_budget() -> None:
    assert seconds("orchestrator") / seconds("rq") < MOST
