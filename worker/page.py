"""The memory that a supervisor shares with a child: what it has started, its body, the last beat, what it is to do.

# Never locked: each field has one writer, see the two sides. The supervisor trusts what the child wrote about runs only
# once the child is dead.
"""

import mmap
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from shared.clock import monotonic

_BEAT = struct.Struct("<d")
_ROUND = struct.Struct("<Qd")
_STARTED = struct.Struct("<36s")
_BODY = struct.Struct("<dQd")
_CANCEL = struct.Struct("<Q")
_COUNT = struct.Struct("<Q")
_FLAG = struct.Struct("<?")
_BEAT_AT, _ROUND_AT, _USED_AT, _RUNS_AT, _HOOKS_AT = 0, 64, 128, 192, 256
_MOST_RUNS_AT, _QUIET_AT, _AHEAD_AT, _PARKED_AT, _EXTRA_AT = 320, 384, 448, 512, 576
_HOOKS_TOLD_AT, _HOOK_AT = 640, 704
# Then a place for each run that may be in the process at a time; tokens of attempts that are to end, and their runs.
_PLACES_AT, _PLACE, _BODY_IN_PLACE, _ID = 1024, 64, 40, 36
_LEAST_CANCELS = 32


@dataclass(frozen=True)
class Body:
    """An attempt in its body, since a moment of this machine's monotonic clock; `seconds` is its limit, 0 for none."""

    run_id: str
    since: float
    token: int = 0
    seconds: float = 0.0


def in_words(run_ids: Sequence[str]) -> str:
    """`run a`, or `runs a, b, c and 47 more`."""
    shown = ", ".join(run_ids[:3])
    left = len(run_ids) - 3
    return f"{'run' if len(run_ids) == 1 else 'runs'} {shown}{f' and {left} more' if left > 0 else ''}"


class Page:
    """Anonymous shared memory, made before the fork: it is both sides' own.

    `ring` is called on the child's side when there is something in it that the supervisor does not wait for. `places`:
    how many runs may be in the child at a time; where that is one, it is in place 0.
    """

    def __init__(self, ring: Callable[[], object] = lambda: None, places: int = 1) -> None:
        self._ring = ring
        self.places = places
        self._kept = max(_LEAST_CANCELS, places)
        self._tokens = struct.Struct(f"<{self._kept}Q")
        self._tokens_at = _PLACES_AT + _PLACE * places
        self._ids_at = self._tokens_at + self._tokens.size
        self._memory = mmap.mmap(-1, self._ids_at + _ID * self._kept)
        self._rounds = 0
        self._runs = 0
        self._used = 1
        self._cancels = 0

    # --- the child's side ---------------------------------------------------------------------------------------------

    def round(self) -> None:
        """The child's loop has come round once more."""
        self._rounds += 1
        _ROUND.pack_into(self._memory, _ROUND_AT, self._rounds, monotonic())

    def start(self, run_id: str, place: int = 0) -> None:
        """This run is executed from now on."""
        self._runs += 1
        _COUNT.pack_into(self._memory, _RUNS_AT, self._runs)
        _STARTED.pack_into(self._memory, _PLACES_AT + _PLACE * place, run_id.encode())
        if place >= self._used:
            self._used = place + 1
            _COUNT.pack_into(self._memory, _USED_AT, self._used)

    def begin_body(self, token: int, seconds: float | None, place: int = 0) -> None:
        """The body of the run's attempt with this token begins, with this time limit."""
        at = _PLACES_AT + _PLACE * place + _BODY_IN_PLACE
        _BODY.pack_into(self._memory, at, monotonic(), token, seconds or 0.0)

    def end_body(self, place: int = 0) -> None:
        """The body has ended; its outcome is not recorded yet."""
        _BODY.pack_into(self._memory, _PLACES_AT + _PLACE * place + _BODY_IN_PLACE, 0.0, 0, 0.0)

    def rest(self, place: int = 0) -> None:
        """Of all that was started in this place the outcomes are recorded."""
        _STARTED.pack_into(self._memory, _PLACES_AT + _PLACE * place, b"")

    def hold_ahead(self, *, on: bool) -> None:
        """Beside the run that is started, others are held that have not started; or there are none any more."""
        _FLAG.pack_into(self._memory, _AHEAD_AT, on)

    def begin_hook(self) -> None:
        """Code of the user's outside of a body begins: a hook, a condition."""
        _BEAT.pack_into(self._memory, _HOOK_AT, monotonic())

    def end_hook(self) -> None:
        """It has ended."""
        _BEAT.pack_into(self._memory, _HOOK_AT, 0.0)

    def park(self, *, on: bool) -> None:
        """What is executed waits for other runs, and lends its slot to them; or goes on."""
        if on != self.is_parked():
            _FLAG.pack_into(self._memory, _PARKED_AT, on)
            self._ring()

    def in_start_hooks(self, *, on: bool) -> None:
        """The child runs its start hooks, which may take any time; or has done so."""
        _FLAG.pack_into(self._memory, _HOOKS_AT, on)

    def most_runs(self) -> int:
        """After how many runs the child is to end; 0 for any number."""
        return int(_COUNT.unpack_from(self._memory, _MOST_RUNS_AT)[0])

    def is_quiet(self) -> bool:
        """True if the child is to begin nothing more."""
        return bool(_FLAG.unpack_from(self._memory, _QUIET_AT)[0])

    def hooks_told(self) -> int:
        """How often the supervisor told of hooks that are due."""
        return int(_COUNT.unpack_from(self._memory, _HOOKS_TOLD_AT)[0])

    def is_extra(self) -> bool:
        """True if the child is to begin only what somebody waits for."""
        return bool(_FLAG.unpack_from(self._memory, _EXTRA_AT)[0])

    def is_cancelled(self, token: int, place: int = 0) -> bool:
        """True if the supervisor wants the attempt with this token, of the run in this place, ended."""
        if token not in self._tokens.unpack_from(self._memory, self._tokens_at):
            return False
        return (self.run_in(place), token) in self.cancelled()  # runs that were begun in one call share a token

    def cancelled(self) -> frozenset[tuple[str, int]]:
        """Run and token of all attempts that the supervisor wants ended."""
        tokens = self._tokens.unpack_from(self._memory, self._tokens_at)
        return frozenset((self._id_at(self._ids_at + _ID * i), token) for i, token in enumerate(tokens) if token)

    def run_in(self, place: int) -> str:
        """The run that was started in this place, until its outcome is recorded; '' for none."""
        return self._id_at(_PLACES_AT + _PLACE * place)

    def since_beat(self) -> float:
        """Seconds since the supervisor's last good beat."""
        (beat,) = _BEAT.unpack_from(self._memory, _BEAT_AT)
        return float(monotonic() - beat)

    # --- the supervisor's side ----------------------------------------------------------------------------------------

    def beaten(self, at: float) -> None:
        """The lease was renewed by a beat that was sent at this moment."""
        _BEAT.pack_into(self._memory, _BEAT_AT, at)

    def rounds(self) -> tuple[int, float]:
        """How often the child's loop came round, and when it last did."""
        number, at = _ROUND.unpack_from(self._memory, _ROUND_AT)
        return int(number), float(at)

    def runs(self) -> int:
        """How many runs the child has started."""
        return int(_COUNT.unpack_from(self._memory, _RUNS_AT)[0])

    def is_spent(self) -> bool:
        """True if the child has started as many runs as it may."""
        return 0 < self.most_runs() <= self.runs()

    def holds_ahead(self) -> bool:
        """True if the child may hold runs that have not started."""
        return bool(_FLAG.unpack_from(self._memory, _AHEAD_AT)[0])

    def is_in_start_hooks(self) -> bool:
        """True while the child runs its start hooks."""
        return bool(_FLAG.unpack_from(self._memory, _HOOKS_AT)[0])

    def in_hook_for(self) -> float | None:
        """Seconds since code of the user's outside of a body began; None if there is none."""
        (since,) = _BEAT.unpack_from(self._memory, _HOOK_AT)
        return float(monotonic() - since) if since else None

    def is_parked(self) -> bool:
        """True while what the child executes waits for other runs."""
        return bool(_FLAG.unpack_from(self._memory, _PARKED_AT)[0])

    def make_extra(self) -> None:
        """Have the child, from its birth on, begin only what somebody waits for."""
        _FLAG.pack_into(self._memory, _EXTRA_AT, True)

    def limit(self, runs: int) -> None:
        """Have the child end after so many runs."""
        _COUNT.pack_into(self._memory, _MOST_RUNS_AT, runs)

    def quiet(self, *, on: bool) -> None:
        """Have the child begin nothing more, or begin again. A child that waits has to be told to look."""
        _FLAG.pack_into(self._memory, _QUIET_AT, on)

    def tell_of_hooks(self) -> None:
        """Have the child look for hooks that are due. A child that waits has to be told to look here."""
        _COUNT.pack_into(self._memory, _HOOKS_TOLD_AT, self.hooks_told() + 1)

    def cancel(self, run_id: str, token: int) -> None:
        """Have this run's attempt with this token ended. The last 32 are kept, or as many as there are places."""
        number = self._cancels % self._kept
        # The id first: with an older token it names no attempt.
        _STARTED.pack_into(self._memory, self._ids_at + _ID * number, run_id.encode())
        _CANCEL.pack_into(self._memory, self._tokens_at + _CANCEL.size * number, token)
        self._cancels += 1

    def bodies(self) -> Iterator[Body]:
        """The attempts that are in their bodies."""
        for place in self._in_use():
            since, token, seconds = _BODY.unpack_from(self._memory, place + _BODY_IN_PLACE)
            if since:
                yield Body(self._id_at(place), since, token, seconds)

    def started(self) -> list[str]:
        """The runs that were started, until their outcomes are recorded: a child that dies loses them."""
        return [run_id for place in self._in_use() if (run_id := self._id_at(place))]

    def close(self) -> None:
        """Give the memory back, on this side."""
        self._memory.close()

    def _in_use(self) -> range:
        (used,) = _COUNT.unpack_from(self._memory, _USED_AT)
        return range(_PLACES_AT, _PLACES_AT + _PLACE * max(1, used), _PLACE)

    def _id_at(self, at: int) -> str:
        (run_id,) = _STARTED.unpack_from(self._memory, at)
        return str(run_id.rstrip(b"\0").decode())
