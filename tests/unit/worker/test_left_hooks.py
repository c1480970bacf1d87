"""What a fleet announces: the ends for which its tasks have hooks that others may have to call."""

from shared.specs import describe
from worker.left_hooks import hooked_tasks


def add(a: int, b: int) -> int:
    return a + b


def note(*_: object) -> None: ...


def test_only_ends_that_scripts_may_make_and_that_have_hooks_are_announced() -> None:
    specs = [
        describe(add, key="plain"),
        describe(add, key="loud", on_running=[note], on_completion=[note]),
        describe(add, key="shop.add", on_failure=[note], on_crashed=[note, note]),
        describe(add, key="shop.sub", on_cancellation=[note]),
    ]
    assert hooked_tasks(specs) == ["FAILED shop.add", "CRASHED shop.add", "CANCELLED shop.sub"]
