"""How an inline run begins: what was asked for becomes a run, which this process holds. Drives nothing."""

from collections.abc import Mapping
from typing import Any, TypeAlias
from uuid import UUID

from shared.ids import as_id, new_id
from shared.naming import default_name
from shared.options import check_options
from shared.references import references_in
from shared.runs import FlowRun, RunInput, TaskRun
from shared.specs import FlowSpec, TaskSpec
from shared.states import Pending
from worker.context import current_tags, inherited
from worker.engine.inline import InlineRun
from worker.engine.recording import Recorder
from worker.inputs import Inputs, inputs_of, named_inputs

Dependencies: TypeAlias = dict[str, set[RunInput]]


def begun(
    spec: TaskSpec[..., Any],
    parameters: Mapping[str, Any],
    recorder: Recorder,
    *,
    task_run: TaskRun | None,
    task_run_id: str | UUID | None,
    wait_for: Any,
    dependencies: Dependencies | None,
    context: Mapping[str, Any] | None,
) -> tuple[InlineRun, Inputs]:
    """The run, held by this process, and what it needs of others.

    Raises:
        ParameterBindError: the parameters do not fit the function.
        InvalidValue: no id.
        TransitionRefused: another process holds the run.
        RedisUnavailable: there is a server, which does not answer; nothing was recorded.
    """
    given = context or {}
    known = task_run
    if known is None and task_run_id is not None:
        known = recorder.find(as_id(task_run_id))
    args, kwargs = spec.binding.unbind(parameters or _stored(known))
    inputs = inputs_of(spec.binding.bind(args, kwargs), wait_for)
    if isinstance(spec, FlowSpec) and known is None and not inputs.sources:
        spec.converted(inputs.parameters)  # what is wrong with them is told before there is a run
    run = known or new_task_run(spec, inputs, new_id() if task_run_id is None else as_id(task_run_id), given)
    named = named_inputs(inputs, dependencies or {}, run.parent)
    is_resumed = bool(given.get("resume"))
    return InlineRun(run, spec, recorder, given.get("cancel_event"), named, is_resumed=is_resumed), inputs


def _stored(run: TaskRun | None) -> Mapping[str, Any]:
    """The parameters that a run which is continued was submitted with; none where they name runs that nobody gave."""
    stored = run.parameters if run is not None else None
    return stored if stored and not references_in(dict(stored)) else {}


def new_task_run(spec: TaskSpec[..., Any], inputs: Inputs, run_id: str, given: Mapping[str, Any]) -> TaskRun:
    """A run that is not recorded yet."""
    handed_down = inherited()
    flow = given.get("flow_run_id") or handed_down.get("flow")
    tags = (*spec.tags, *current_tags(), *check_options({"tags": given.get("tags")}).get("tags", ()))
    return (FlowRun if spec.kind == "flow" else TaskRun)(
        id=run_id,
        task=spec.key,
        name=default_name(spec.name, run_id, in_flow=flow is not None),
        queue=spec.queue,
        state=Pending(),
        parent=given.get("parent_run") or handed_down.get("parent"),
        flow=flow,
        tags=tuple(dict.fromkeys(tags)),
        parameters=inputs.parameters,
        correlation=given.get("correlation_id") or handed_down.get("correlation"),
        traceparent=given.get("traceparent") or handed_down.get("traceparent"),
    )
