"""What a call of a task becomes when it is submitted: a NewRun with the options that a worker cannot know. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared import codec, retries
from shared.commands import NewRun
from shared.ids import new_id
from shared.settings import Settings
from shared.specs import TaskSpec, registry
from shared.transport import Argument


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """Options that belong to one submit, not to a task. `delay` is in seconds."""

    delay: float | None = None
    at_front: bool = False


_USUAL: Final = SubmitOptions()


def options_of(task: object) -> SubmitOptions:
    """Those that `with_options` gave a task, and nothing special for anything else that is submitted."""
    options = getattr(task, "options", None)
    return options if isinstance(options, SubmitOptions) else _USUAL


def new_run(
    key: str,
    queue: str,
    parameters: Mapping[str, Any],
    settings: Settings,
    *,
    options: SubmitOptions,
    fields: dict[str, Argument],
) -> NewRun:
    """A run to be accepted.

    Raises:
        InvalidCall: an argument cannot be sent; names its path.
        LimitExceeded: the arguments are too large.
    """
    envelope = codec.encode(dict(parameters), limit=settings.max_parameters, where="parameters")
    return NewRun(new_id(), key, queue, envelope, options.delay, options.at_front, fields)


def fields_of(spec: TaskSpec[..., Any]) -> dict[str, Argument]:
    """What of a task's options the run itself must tell.

    `on_crash` and a run's name are read by scripts and people; the others only where they differ from what a worker
    finds in its own registry, that is where `with_options` changed them.
    """
    usual = registry.get(spec.key)
    fields: dict[str, Argument] = {}
    if spec.name != spec.key.rpartition(".")[2]:
        fields["name"] = spec.name
    if spec.on_crash != "retry":
        fields["on_crash"] = spec.on_crash
    if spec.retries or (usual and usual.retries != spec.retries):
        fields["max_retries"] = spec.retries
    if usual is spec:
        return fields
    if usual is None or usual.retry_delays != spec.retry_delays:
        fields["retry_delays"] = retries.to_text(spec.retry_delays) or "0"
    if usual is None or usual.timeout_seconds != spec.timeout_seconds:
        fields["timeout_seconds"] = spec.timeout_seconds or 0
    if spec.result_ttl is not None and (usual is None or usual.result_ttl != spec.result_ttl):
        fields["result_ttl"] = spec.result_ttl
    return fields
