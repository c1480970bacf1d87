"""The annotations of a function's parameters, as pydantic checks and converts by them. Does not call the function."""

import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from inspect import Parameter, Signature
from typing import Any, Final, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from shared.errors import ParameterBindError
from shared.texts import printable

log = logging.getLogger(__name__)
_ANY_CLASS: Final = ConfigDict(arbitrary_types_allowed=True)


class Validation:
    """Checks the parameters of one function. The annotations are read at the first call: they may name what follows."""

    def __init__(self, fn: Callable[..., Any], signature: Signature) -> None:
        self._fn = fn
        self._signature = signature

    def converted(self, name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as the annotations want them; one without an annotation stays as it is. `name`: for messages.

        Raises:
            ParameterBindError: names all that are wrong.
        """
        converted, wrong = dict(parameters), list[str]()
        for parameter in parameters.keys() & self._adapters.keys():
            try:
                converted[parameter] = self._adapters[parameter].validate_python(parameters[parameter])
            except ValidationError as error:
                wrong += _told(parameter, error)
        if wrong:
            told = "\n".join(f"  {line}" for line in sorted(wrong))
            raise ParameterBindError(f"Error binding parameters for function '{name}':\n{told}")
        return converted

    @cached_property
    def _adapters(self) -> dict[str, TypeAdapter[Any]]:
        found = {}
        for name, annotation in self._annotations().items():
            try:
                found[name] = _adapter(annotation)
            except PydanticUserError as error:
                log.warning("Parameter '%s' of %r is not checked: %s", name, self._fn, error)
        return found

    def _annotations(self) -> dict[str, Any]:
        """What each parameter has to be, as a whole: of a variadic one a tuple or a dict."""
        parameters = self._signature.parameters.values()
        annotations = {each.name: each.annotation for each in parameters if each.annotation is not Parameter.empty}
        if any(isinstance(annotation, str) for annotation in annotations.values()):
            try:
                annotations = {**annotations, **get_type_hints(self._fn, include_extras=True)}
            except (NameError, TypeError) as error:
                log.warning("Some parameters of %r are not checked: %s", self._fn, error)
        return {
            each.name: _whole(each.kind, annotations[each.name])
            for each in parameters
            if not isinstance(annotations.get(each.name, ""), str)
        }


def _whole(kind: Any, annotation: Any) -> Any:
    if kind is Parameter.VAR_POSITIONAL:
        return tuple[annotation, ...]
    return dict[str, annotation] if kind is Parameter.VAR_KEYWORD else annotation


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=_ANY_CLASS)
    except PydanticUserError:
        return TypeAdapter(annotation)  # a model has a configuration of its own


def _told(parameter: str, error: ValidationError) -> list[str]:
    """A line for each problem. Values are not shown: they may be secret."""
    return [
        printable(f"{'.'.join(map(str, (parameter, *each['loc'])))}: {each['msg']}")
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]
