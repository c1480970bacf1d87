"""What may be a hook of a worker process, and who calls which."""

from typing import Any

import pytest

from shared.errors import InvalidCall
from worker.process_hooks import on_worker_start, on_worker_stop


def needs(pool: object, *rest: object, name: str, size: int = 1) -> None: ...


@pytest.mark.parametrize("register", [on_worker_start, on_worker_stop])
@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (None, "stands before a function, got None; write it without parentheses"),
        (needs, "needs without arguments, and it needs pool, name"),
    ],
)
def test_what_cannot_be_called_is_refused(register: Any, hook: Any, said: str) -> None:
    with pytest.raises(InvalidCall, match=f"@{register.__name__} .*{said}"):
        register(hook)
