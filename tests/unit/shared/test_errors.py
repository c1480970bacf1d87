import builtins
import pickle
import re

import pytest

from shared import errors
from shared.errors import (
    ENDRUN,
    Abort,
    BatonError,
    BatonSignal,
    CrashedRun,
    FailedRun,
    InvalidCall,
    MissingResult,
    Pause,
    PausedRun,
    RedisUnavailable,
    RemoteTraceback,
    TerminationSignal,
    WaitTimeout,
    allow_exceptions,
    find_exception,
    qualified_name,
)

ALL = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__module__ == errors.__name__
]
OF_BATON = [kind for kind in ALL if issubclass(kind, BatonError)]


class CustomError(Exception):
    pass


class CustomStop(StopIteration):
    pass


def parents_drawn_in_the_docstring() -> dict[str, str]:
    """Each name in the tree of the docstring with the name that it hangs on."""
    above: dict[int, str] = {}
    parents: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Za-z]+)", line)
        if found is None or not (found[1] or line.startswith(("    BatonError", "    RemoteT", "    BatonS"))):
            continue
        depth = len(found[1]) // 4
        above[depth] = found[2]
        if depth:
            parents[found[2]] = above[depth - 1]
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = parents_drawn_in_the_docstring()
    hidden = {"_RunEnd"}
    actual = {
        kind.__name__: next(base.__name__ for base in kind.__mro__[1:] if base.__name__ not in hidden)
        for kind in ALL
        if kind.__name__ not in {"BatonError", "BatonSignal", "RemoteTraceback", *hidden}
    }
    assert drawn == actual


@pytest.mark.parametrize("kind", OF_BATON, ids=lambda kind: kind.__name__)
def test_the_docstring_is_the_default_message(kind: type[BatonError]) -> None:
    assert str(kind()) == " ".join((kind.__doc__ or "").split())


@pytest.mark.parametrize("kind", OF_BATON, ids=lambda kind: kind.__name__)
def test_a_given_message_is_the_text_even_if_empty(kind: type[BatonError]) -> None:
    assert [str(kind("told")), str(kind(""))] == ["told", ""]


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InvalidCall", TypeError),
        ("ParameterBindError", TypeError),
        ("ReservedArgumentError", TypeError),
        ("ResultNotSerialisable", TypeError),
        ("InvalidValue", ValueError),
        ("LimitExceeded", ValueError),
        ("MappingLengthMismatch", ValueError),
        ("MappingMissingIterable", ValueError),
        ("WouldDeadlock", ValueError),
        ("Closed", RuntimeError),
        ("MissingContextError", RuntimeError),
        ("WaitTimeout", TimeoutError),
        ("TaskRunTimeoutError", TimeoutError),
    ],
)
def test_an_exception_is_also_the_builtin_that_one_would_catch(name: str, builtin: type[Exception]) -> None:
    kind = getattr(errors, name)
    assert (issubclass(kind, BatonError), issubclass(kind, builtin)) == (True, True)


@pytest.mark.parametrize(
    "signal",
    [Abort("no"), Pause("state"), TerminationSignal(15), ENDRUN("state")],
    ids=lambda signal: type(signal).__name__,
)
def test_no_except_exception_swallows_a_signal(signal: BatonSignal) -> None:
    assert (isinstance(signal, BaseException), isinstance(signal, Exception)) == (True, False)


def test_signals_carry_what_they_are_about() -> None:
    abort, default = Abort("not allowed"), Abort()
    assert (abort.reason, str(abort), default.reason) == ("not allowed", "not allowed", "The rules stopped this run.")
    assert (Pause("p").state, ENDRUN("e").state, TerminationSignal(15).signal) == ("p", "e", 15)


def test_wrappers_carry_what_is_known_of_the_run() -> None:
    error = FailedRun("m", type_name="shop.Broken", traceback="Traceback ...", run_id="r")
    assert (error.args, error.type_name, error.traceback, error.run_id) == (("m",), "shop.Broken", "Traceback ...", "r")
    assert (CrashedRun().type_name, CrashedRun().traceback, CrashedRun().run_id) == (None, None, None)


def test_what_is_known_beside_the_text_is_kept_as_attributes() -> None:
    assert (RedisUnavailable("t", "h:1/0").address, PausedRun("t", "state").state) == ("h:1/0", "state")


@pytest.mark.parametrize(
    "error",
    [FailedRun("m", type_name="x"), RedisUnavailable("m", "h:1/0"), MissingResult()],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_survives_pickling_with_its_attributes(error: BatonError) -> None:
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copied), copied.args, vars(copied)) == (type(error), error.args, vars(error))


def test_a_remote_traceback_stands_on_lines_of_its_own() -> None:
    assert str(RemoteTraceback("Traceback:\n  there\n")) == "\n\nTraceback:\n  there"


def test_builtin_exceptions_and_our_own_are_found_by_their_qualified_names() -> None:
    assert (find_exception("ValueError"), find_exception("shared.errors.WaitTimeout")) == (ValueError, WaitTimeout)


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(builtins).values()
        if isinstance(kind, type) and issubclass(kind, BaseException) and not issubclass(kind, Exception)
    ],
)
def test_interrupts_are_never_found(kind: type[BaseException]) -> None:
    assert find_exception(qualified_name(kind)) is None


@pytest.mark.parametrize("name", ["StopIteration", "StopAsyncIteration"])
def test_what_means_the_end_of_an_iteration_is_never_found(name: str) -> None:
    assert find_exception(name) is None


def test_not_even_a_registered_end_of_an_iteration_is_found() -> None:
    allow_exceptions(CustomStop)
    assert find_exception(qualified_name(CustomStop)) is None


def test_a_class_is_found_once_it_is_registered() -> None:
    before = find_exception(qualified_name(CustomError))
    allow_exceptions(CustomError)
    assert (before, find_exception(qualified_name(CustomError))) == (None, CustomError)


@pytest.mark.parametrize("wrong", [KeyboardInterrupt, int, "ValueError", ValueError("x")])
def test_what_is_no_exception_class_cannot_be_registered_nor_what_is_beside_it(wrong: type[Exception]) -> None:
    beside = type("Beside", (Exception,), {})
    with pytest.raises(InvalidCall, match="takes exception classes, got"):
        allow_exceptions(beside, wrong)
    assert find_exception(qualified_name(beside)) is None
