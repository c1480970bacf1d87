"""Under which key a task's result is cached: policies, validators, and what may be digested. No I/O, no Redis.

    INPUTS              the arguments, defaults filled in; `INPUTS - "client"` leaves one out
    TASK_SOURCE         the source text of the function
    RUN_ID              the flow's run, else the run
    FLOW_PARAMETERS     the parameters of the flow
    DEFAULT             INPUTS + TASK_SOURCE + RUN_ID
    NO_CACHE            nothing is cached
    all_inputs ...      validators: policies that can also be asked whether a cached state is still valid

How keys are made stands in `cache_policies.py`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from shared import clock
from shared.cache_policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    KEY_ERROR,
    LONGEST_KEY,
    NO_CACHE,
    RUN_ID,
    TASK_SOURCE,
    CacheContext,
    CachedTask,
    CacheKeyFnPolicy,
    CachePolicy,
    NoCache,
    StorageKeyPolicy,
    Values,
    check_template,
    names_of,
    parameters_named,
    values_of,
)
from shared.codec import digest
from shared.errors import HashError
from shared.states import State

__all__ = [
    "DEFAULT",
    "FLOW_PARAMETERS",
    "INPUTS",
    "KEY_ERROR",
    "LONGEST_KEY",
    "NO_CACHE",
    "RUN_ID",
    "TASK_SOURCE",
    "CacheContext",
    "CacheKeyFnPolicy",
    "CachePolicy",
    "CacheValidator",
    "CachedTask",
    "StorageKeyPolicy",
    "all_inputs",
    "all_parameters",
    "check_template",
    "duration_only",
    "never_use",
    "parameters_named",
    "partial_inputs_only",
    "partial_parameters_only",
    "policy_of",
]


@dataclass(frozen=True, kw_only=True)
class CacheValidator(CachePolicy):
    """A policy that is also asked `(state, inputs, parameters)` whether the result of a cached state may be used.

    It digests the arguments (`of` is "inputs") or the flow's parameters ("parameters"): those of these names, or all.
    Without any name the key is that of the task.
    """

    of: Literal["inputs", "parameters"] = "inputs"
    names: frozenset[str] | None = None

    def key_part(self, context: CacheContext, inputs: Values, flow_parameters: Values | None) -> str | None:  # noqa: ARG002
        """The digest of what is validated."""
        return self._part(inputs, flow_parameters)

    def __call__(self, state: State[Any], inputs: Values | None = None, parameters: Values | None = None) -> bool:
        """True if the state's result may be used: it has not expired, and what is validated is as it was then.

        What cannot be digested is never as it was.
        """
        details = state.state_details
        if details.cache_expiration is not None and details.cache_expiration <= clock.now():
            return False
        try:
            part = self._part(inputs, parameters)
        except HashError:
            return False
        return part == "" or (details.cache_key or "").rpartition("/")[2] == part

    def _part(self, inputs: Values | None, parameters: Values | None) -> str:
        values = values_of(inputs if self.of == "inputs" else parameters)
        if self.names is None:
            return digest(values, where=self.of)
        return digest({name: values[name] for name in self.names & values.keys()}, where=self.of) if self.names else ""


@dataclass(frozen=True, kw_only=True)
class _NeverUse(NoCache, CacheValidator):
    def __call__(self, state: State[Any], inputs: Values | None = None, parameters: Values | None = None) -> bool:  # noqa: ARG002
        return False


def partial_inputs_only(validate_on: Iterable[str] | None = None) -> CacheValidator:
    """Valid while the arguments of these names are as they were; without names as `duration_only`."""
    return CacheValidator(of="inputs", names=names_of(validate_on or ()))


def partial_parameters_only(validate_on: Iterable[str] | None = None) -> CacheValidator:
    """Valid while the flow's parameters of these names are as they were; without names as `duration_only`."""
    return CacheValidator(of="parameters", names=names_of(validate_on or ()))


never_use: Final[CacheValidator] = _NeverUse()
"""Never valid: nothing is cached."""
duration_only: Final = CacheValidator(names=frozenset())
"""Valid until it expires."""
all_inputs: Final = CacheValidator(of="inputs")
"""Valid while all arguments are as they were."""
all_parameters: Final = CacheValidator(of="parameters")
"""Valid while all parameters of the flow are as they were."""


def policy_of(
    policy: CachePolicy | None, cache_key_fn: Callable[..., str | None] | None, storage_key: str | None
) -> CachePolicy:
    """What a task's options come to: a storage key wins over a function, a function over a policy.

    Storage, isolation and locks are those of the policy.
    """
    if storage_key is not None:
        chosen: CachePolicy = StorageKeyPolicy(storage_key)
    elif cache_key_fn is not None:
        chosen = CacheKeyFnPolicy(cache_key_fn)
    else:
        return NO_CACHE if policy is None else policy
    return (
        chosen if policy is None else chosen.configure(policy.key_storage, policy.isolation_level, policy.lock_manager)
    )
