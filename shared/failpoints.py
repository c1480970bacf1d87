"""Points at which tests let a process fail, and mechanisms that they switch off. Nothing without the environment.

`$BATON_FAILPOINTS` is read once, at import: `engine.before_body=kill@3,fence=off`. `kill` is SIGKILL for this process,
with `@N` at the Nth time only; `off` switches a mechanism off. There is one of each.
"""

import os
import signal
from collections import Counter
from typing import Final

_given: Final = {
    name: action
    for name, _, action in (
        entry.partition("=") for entry in os.environ.get("BATON_FAILPOINTS", "").split(",") if entry
    )
}
_passed: Counter[str] = Counter()


def is_off(switch: str) -> bool:
    """True if a test switched this mechanism off."""
    return _given.get(switch) == "off"


def failpoint(name: str) -> None:
    """Fail here, if a test asked for it."""
    if _given:
        _reached(name)


def _reached(name: str) -> None:
    action, _, number = _given.get(name, "").partition("@")
    if not action:
        return
    _passed[name] += 1
    if action == "kill" and (not number or _passed[name] == int(number)):
        os.kill(os.getpid(), signal.SIGKILL)
