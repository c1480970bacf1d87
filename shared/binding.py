"""A function's signature: arguments to parameters by name, and back. Calls nothing."""

from collections.abc import Mapping, Sequence
from inspect import BoundArguments, Parameter, Signature
from typing import Any

from shared.errors import ParameterBindError
from shared.texts import shown

SHOWN = 100
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class Binding:
    """Binds calls of one function. `name` is the task's, for messages."""

    def __init__(self, name: str, signature: Signature) -> None:
        self.name = name
        self.signature = signature
        parameters = signature.parameters.values()
        self._names = frozenset(signature.parameters)
        self._required = frozenset(
            parameter.name
            for parameter in parameters
            if parameter.default is Parameter.empty and parameter.kind not in _VARIADIC
        )
        # All but positional-only and variadic parameters can be given by name: then a call needs no sorting out.
        self._by_name = all(
            parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY) for parameter in parameters
        )

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by parameter name; a default that is not replaced is left out, variadic ones keep their names.

        Raises:
            ParameterBindError: they do not fit the signature.
        """
        try:
            return self.signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            values = ", ".join(shown(value, SHOWN) for value in args)
            raise ParameterBindError(
                f"Error binding parameters for function '{self.name}': {error}.\n"
                f"Function '{self.name}' has signature '{self.signature}' "
                f"but received args: ({values}) and kwargs: {list(kwargs)}."
            ) from None

    def complete(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with the defaults of those that are not among them.

        Raises:
            ParameterBindError: as `unbind`.
        """
        args, kwargs = self.unbind(parameters)
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def unbind(self, parameters: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Positional and keyword arguments that call the function with these parameters.

        Raises:
            ParameterBindError: a required one is missing, or one is not the function's.
        """
        given = parameters.keys()
        if self._by_name and given <= self._names and self._required <= given:
            return (), parameters
        known = {name: value for name, value in parameters.items() if name in self._names}
        unknown = {name: value for name, value in parameters.items() if name not in self._names}
        bound = BoundArguments(self.signature, known)
        args, kwargs = bound.args, {**bound.kwargs, **unknown}
        self.bind(args, kwargs)
        return args, kwargs
