"""Engines for tests, with a run that is recorded nowhere but here."""

from typing import Any

from shared.ids import new_id
from shared.runs import TaskRun
from shared.specs import TaskSpec
from shared.states import Pending
from worker.engine.drivers import SyncTaskRunEngine
from worker.engine.inline import InlineRun
from worker.engine.recording import PrivateRecorder

RUN_ID = new_id()


def new_run(spec: TaskSpec[..., Any]) -> TaskRun:
    """A run that is not recorded yet."""
    return TaskRun(id=RUN_ID, task=spec.key, name=spec.name, queue=spec.queue, state=Pending())


def engine_of(
    spec: TaskSpec[..., Any], seconds: float | None = None, recorder: PrivateRecorder | None = None, **parameters: Any
) -> SyncTaskRunEngine[..., Any]:
    """An engine with a new run."""
    place = InlineRun(new_run(spec), spec, recorder or PrivateRecorder())
    return SyncTaskRunEngine(spec, parameters, seconds, place)
