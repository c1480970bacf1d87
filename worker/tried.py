"""A run as the rules see it, for those who judge a run that another process executes. No I/O."""

from typing import Any, Literal

from shared.rules import Kind, LastEnd
from shared.runs import TaskRun
from shared.settings import Settings
from shared.specs import TaskSpec
from shared.states import State


class Tried:
    """A run's record, and what its task says of retries."""

    last_end: LastEnd = ""
    outlives_flow = False
    pause_keys = ()

    def __init__(self, run: TaskRun, spec: TaskSpec[..., Any] | None, settings: Settings) -> None:
        self.kind: Kind = run.kind
        self.state: State[Any] | None = run.state
        self.attempt = run.attempt
        self.run_count = run.run_count
        self.crashes = run.crashes
        self.crash_budget = settings.crash_budget
        self.retries = run.max_retries if run.max_retries is not None else spec.retries if spec else 0
        self.on_crash: Literal["retry", "fail"] = spec.on_crash if spec else "retry"
        self.flow = run.flow
