"""Points at which tests let a process fail, and mechanisms that they switch off. Nothing without the environment.

`$BATON_FAILPOINTS` is read once, at import: `engine.before_body=kill@3,fence=off`. Actions: `kill` (SIGKILL for this
process), `exit:N`, `raise`; with `@N` at the Nth time only. `off` switches a mechanism off.
"""

import os
import signal
from collections import Counter
from typing import Final

POINTS: Final = ("engine.before_body", "finish.before", "finish.after", "wake.taken", "reap.done")
SWITCHES: Final = ("fence",)

_given: Final = {
    name: action
    for name, _, action in (
        entry.partition("=") for entry in os.environ.get("BATON_FAILPOINTS", "").split(",") if entry
    )
}
_passed: Counter[str] = Counter()


class FailpointReached(Exception):
    """A failpoint with the action `raise`."""


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
    if number and _passed[name] != int(number):
        return
    match action.partition(":"):
        case ("kill", _, _):
            os.kill(os.getpid(), signal.SIGKILL)
        case ("exit", _, code):
            os._exit(int(code))
        case ("raise", _, _):
            raise FailpointReached(name)
