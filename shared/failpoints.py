"""Points at which tests let a process fail, and mechanisms that they switch off. Nothing without the environment.

`$BATON_FAILPOINTS` is read once, at import: `engine.before_body=kill@3,fence=off`. `kill` is SIGKILL for this process,
with `@N` at the Nth time only; `off` switches a mechanism off. A name that is not listed here ends the process: a test
that misspells it would fail nothing, and pass.
"""

import os
import signal
from collections import Counter
from typing import Final

POINTS: Final = {
    "engine.before_body": "an attempt was begun, and its body has not started",
    "finish.after": "an outcome is recorded, and its worker has not heard so",
    "finish.before": "a body has ended, and its outcome is not on its way",
    "reap.batch": "some of those whose lease was over are buried, and there may be more",
    "wake.taken": "a wake-up token was taken from its list, and its worker has not looked for work",
}
"""Where a process can be let fail: between which two steps."""
SWITCHES: Final = {
    "alone": "a run with a crash behind it is begun alone",
    "death_signal": "a worker process ends with its supervisor",
    "deaths": "a supervisor reports what its dead children held",
    "fence": "an attempt that was taken away may report nothing",
    "give_back": "what was begun ahead goes back while a body lasts",
    "guard": "nobody is taken for dead within a lease of a start of Redis",
    "lending": "a body that waits for other runs lends its slot to them",
    "reap": "what a fleet held is taken from it when its lease is over",
    "reconcile": "fleets look for runs that lie in no place",
    "repeat": "a call is sent again until it is answered",
    "room": "ends are recorded and leases renewed although memory is full",
}
"""What can be switched off."""


def _read(text: str) -> dict[str, str]:
    given = {name: action for name, _, action in (entry.partition("=") for entry in text.split(",") if entry)}
    if unknown := given.keys() - POINTS.keys() - SWITCHES.keys():
        raise ValueError(f"$BATON_FAILPOINTS names {', '.join(sorted(unknown))}: there is no such point or switch")
    return given


_given: Final = _read(os.environ.get("BATON_FAILPOINTS", ""))
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
