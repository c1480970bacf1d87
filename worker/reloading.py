"""`baton worker --reload`: a fleet in a process of its own, started anew whenever a source file of the user's changes.

For development. Whoever watches imports nothing of the user's: what cannot be imported fails in the fleet's process,
and is tried again at the next change.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from watchfiles import Change, PythonFilter, watch

from worker.loader import look_in
from worker.posix_signals import HEEDED, STOP_SIGNALS

log = logging.getLogger("baton.fleet")
EXIT_CONFIG = 78
LOOK_EVERY = 100
"""Milliseconds after which it is seen that the fleet has ended."""
# Its own process group: a terminal's Ctrl-C reaches the watching process, which passes it on once.
PROGRAM = """
import os, signal, sys
from worker.child import die_with
die_with({parent}, signal.SIGTERM)
from orchestrator.cli import main
main()
"""
Changes = Generator[set[tuple[Change, str]], None, None]


class Reloader:
    """Of one fleet, which is started by `baton` with these words."""

    def __init__(self, words: Sequence[str], modules: Sequence[str], folder: Path | None = None) -> None:
        self._words = words
        self._modules = modules
        self._folder = folder or Path.cwd()
        self._fleet: subprocess.Popen[bytes] | None = None
        self._is_stopping = False

    def run(self) -> int:
        """Until it is told to stop or the fleet ends by itself; the exit code. Signals are passed on to the fleet."""
        before = {number: signal.signal(number, self._pass_on) for number in HEEDED}
        try:
            code = None
            while code is None and not self._is_stopping:
                code = self._one_life()
            return code or 0
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _one_life(self) -> int | None:
        """From a start of the fleet to the next change; an exit code if there is to be no other."""
        changes: Changes = watch(
            *watched_folders(self._modules, self._folder),
            watch_filter=PythonFilter(),
            rust_timeout=LOOK_EVERY,
            yield_on_timeout=True,
            recursive=False,
        )
        with closing(changes):
            next(changes)  # from here on it watches: what changes while the fleet starts is not missed
            self._fleet = fleet = self._started()
            if self._is_stopping:
                fleet.terminate()  # the signal came when there was nobody yet to pass it on to
            return self._watch(fleet, changes)

    def _started(self) -> "subprocess.Popen[bytes]":
        program = PROGRAM.format(parent=os.getpid())
        # -P: as for the installed command, the present folder does not stand in front of all others.
        words = [sys.executable, "-P", "-c", program, *self._words]
        return subprocess.Popen(words, process_group=0)  # noqa: S603 - the words of the user's own command

    def _watch(self, fleet: "subprocess.Popen[bytes]", changes: Changes) -> int | None:
        has_told = False
        for changed in changes:
            code = fleet.poll()
            if self._is_stopping:
                return _exit_code(fleet.wait())
            if changed:
                names = ", ".join(sorted(path for _, path in changed)[:3])
                log.warning("changed: %s; what runs is finished, then the fleet starts anew", names)
                if code is None:
                    fleet.terminate()
                    fleet.wait()
                return None
            if code is not None and code != EXIT_CONFIG:
                return _exit_code(code)
            if code is not None and not has_told:
                log.warning("the fleet could not start: it is tried again after the next change")
                has_told = True
        raise AssertionError("the watch ended by itself")

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self._is_stopping = self._is_stopping or number in STOP_SIGNALS
        if self._fleet is not None:
            self._fleet.send_signal(number)


def _exit_code(code: int) -> int:
    return code if code >= 0 else 128 - code


def watched_folders(modules: Sequence[str], folder: Path) -> list[Path]:
    """The folders that these modules lie in, and those of the packages below. Imports none of them."""
    look_in(folder)
    found: dict[Path, None] = {}
    for name in modules:
        spec = find_spec(name.partition(".")[0])  # of the topmost package only: for one below its parent is imported
        places = list(spec.submodule_search_locations or ()) if spec is not None else []
        if spec is not None and spec.origin is not None and not places:
            places = [str(Path(spec.origin).parent)]
        for place in places:
            found.update(dict.fromkeys(_with_packages(Path(place).resolve())))
    return sorted(found) or [folder]


def _with_packages(folder: Path) -> Iterator[Path]:
    yield folder
    for below in sorted(folder.iterdir()):
        if below.is_dir() and not below.is_symlink() and below.name.isidentifier() and any(below.glob("*.py")):
            yield from _with_packages(below)
