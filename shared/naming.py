"""What a run is called by default, and how its record tells its tags: as the limits that it falls under. No I/O."""

from collections.abc import Iterable

_TAG = "tag:"


def limits_of(tags: Iterable[str], own: str | None = None) -> str:
    """The names of the limits that a run with these tags falls under, and of its task's own, as its record has them."""
    names = [f"{_TAG}{tag}" for tag in tags]
    return " ".join(names if own is None else [*names, own])


def own_limit(task_key: str) -> str:
    """The name of the limit of a task's own."""
    return f"task:{task_key}"


def default_name(task_name: str, run_id: str, *, in_flow: bool) -> str:
    """What a run without a name of its own is called: as its task; in a flow with the end of its id."""
    return f"{task_name}-{run_id[-3:]}" if in_flow else task_name


def tags_in(limits: str) -> tuple[str, ...]:
    """The tags of a run, from the names of its limits: each of its tags is one."""
    return tuple(name.removeprefix(_TAG) for name in limits.split() if name.startswith(_TAG))
