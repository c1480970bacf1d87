"""What `map` makes of its arguments: the parameters of each child. Waits for nothing and sends nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter
from itertools import islice
from typing import Any, Final, TypeAlias

from pydantic import BaseModel

from orchestrator.calls import SubmitOptions
from shared.annotations import Annotation, allow_failure, quote, unmapped
from shared.binding import Binding
from shared.errors import LimitExceeded, MappingLengthMismatch, MappingMissingIterable, UpstreamTaskError
from shared.outcomes import get_state_exception
from shared.runs import BaseRunFuture
from shared.states import State

MOST_CHILDREN: Final = 100_000
_WHOLE: Final = (str, bytes, bytearray, memoryview, Mapping, BaseModel, State)
"""Iterable, but one value each."""
Place: TypeAlias = tuple[str, int | str | None]
"""An argument: the parameter's name, and of a variadic one the index or the keyword."""


@dataclass(frozen=True, slots=True)
class _Given:
    """An argument without its annotations, which are around each child's element again."""

    value: Any
    layers: tuple[Annotation[Any], ...]

    @property
    def is_mapped(self) -> bool:
        return not self._has(unmapped) and isinstance(self.value, Iterable) and not isinstance(self.value, _WHOLE)

    @property
    def awaits(self) -> BaseRunFuture[Any] | None:
        """The future whose result tells what there is to be mapped over."""
        is_read = isinstance(self.value, BaseRunFuture) and not (self._has(unmapped) or self._has(quote))
        return self.value if is_read else None

    @property
    def may_fail(self) -> bool:
        return self._has(allow_failure)

    def _has(self, kind: type[Annotation[Any]]) -> bool:
        return any(isinstance(layer, kind) for layer in self.layers)

    def around(self, element: Any) -> Any:
        for layer in reversed(self.layers):
            element = layer.rewrap(element)
        return element


class MapCall:
    """One call of `map`: every iterable argument is mapped, but texts, mappings, models and what is `unmapped`.

    A default that is not replaced is not mapped. Each of the variadic arguments stands for itself.

    Raises:
        ParameterBindError: the arguments do not fit the signature.
    """

    def __init__(self, binding: Binding, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        bound = binding.bind(args, kwargs)
        kinds = {name: parameter.kind for name, parameter in binding.signature.parameters.items()}
        self._variadic = {name for name in bound if kinds[name] in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)}
        self._empty = {name: type(bound[name])() for name in self._variadic}
        self._given = {place: _peeled(value) for place, value in self._places(bound)}

    def _places(self, bound: Mapping[str, Any]) -> Iterable[tuple[Place, Any]]:
        for name, value in bound.items():
            if name not in self._variadic:
                yield (name, None), value
            elif isinstance(value, dict):
                yield from (((name, keyword), each) for keyword, each in value.items())
            else:
                yield from (((name, index), each) for index, each in enumerate(value))

    def awaits(self) -> list[BaseRunFuture[Any]]:
        """Futures that stand for a whole argument: what they give has to be known first."""
        return [future for given in self._given.values() if (future := given.awaits) is not None]

    def children(
        self, ends: Mapping[BaseRunFuture[Any], State[Any] | None], *, to_the_shortest: bool = False
    ) -> list[dict[str, Any]]:
        """The parameters of each child, with the results of the futures that were waited for.

        `to_the_shortest`: there are as many as the shortest iterable has elements, instead of an error.

        Raises:
            UpstreamTaskError: one of these did not complete.
            MappingMissingIterable: there is nothing to be mapped over.
            MappingLengthMismatch: the iterables are not of one length.
            LimitExceeded: there would be more than 100,000 children.
            Exception: whatever an iterator among the arguments raised.
        """
        given = {place: _known(each, ends) for place, each in self._given.items()}
        columns = {place: _read(place, each) for place, each in given.items() if each.is_mapped}
        if not columns:
            raise MappingMissingIterable(
                "map was given nothing to map over: one of its arguments must be iterable and not unmapped; "
                f"they are {', '.join(_name(place) for place in given) or 'none'}"
            )
        lengths = {_name(place): len(column) for place, column in columns.items()}
        if len(set(lengths.values())) > 1 and not to_the_shortest:
            told = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise MappingLengthMismatch(f"the arguments to be mapped are of different lengths: {told}")
        return [self._child(given, columns, i) for i in range(min(lengths.values()))]

    def _child(self, given: Mapping[Place, _Given], columns: Mapping[Place, list[Any]], i: int) -> dict[str, Any]:
        values = {
            place: each.around(columns[place][i] if place in columns else each.value) for place, each in given.items()
        }
        parameters: dict[str, Any] = dict(self._empty)
        for (name, part), value in values.items():
            if part is None:
                parameters[name] = value
            elif isinstance(part, int):
                parameters[name] = (*parameters[name], value)
            else:
                parameters[name] = {**parameters[name], part: value}
        return parameters


def options_of_children(options: SubmitOptions, many: int) -> list[SubmitOptions]:
    """A submit's options for each child: an idempotency key becomes one of the child's own."""
    if options.idempotency_key is None:
        return [options] * many
    return [replace(options, idempotency_key=f"{options.idempotency_key}[{i}]") for i in range(many)]


def elements_of(value: Any) -> list[Any] | None:
    """The elements that an argument is mapped over, each with the annotations around it; None if it is not mapped."""
    given = _peeled(value)
    return [given.around(element) for element in _read(("argument", None), given)] if given.is_mapped else None


def _peeled(value: Any) -> _Given:
    layers: list[Annotation[Any]] = []
    while isinstance(value, Annotation):
        layers.append(value)
        value = value.unwrap()
    return _Given(value, tuple(layers))


def _known(given: _Given, ends: Mapping[BaseRunFuture[Any], State[Any] | None]) -> _Given:
    future = given.awaits
    if future is None:
        return given
    state = ends[future]
    if state is not None and state.is_completed():
        return replace(given, value=state.result())
    error = UpstreamTaskError(f"Upstream task run '{future.run_id}' did not reach a 'COMPLETED' state.")
    if state is None:
        raise error
    if not given.may_fail:
        raise error from get_state_exception(state)
    return replace(given, value=get_state_exception(state))


def _read(place: Place, given: _Given) -> list[Any]:
    """The elements, each read once; an endless iterator is read no further than to the limit."""
    elements = list(islice(given.value, MOST_CHILDREN + 1))
    if len(elements) > MOST_CHILDREN:
        raise LimitExceeded(f"'{_name(place)}' has more than {MOST_CHILDREN} elements, the most that map takes at once")
    return elements


def _name(place: Place) -> str:
    name, part = place
    return name if part is None else str(part) if isinstance(part, str) else f"{name}[{part}]"
