import asyncio
import builtins
import sys
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import (
    CancelledRun,
    CrashedRun,
    InvalidValue,
    RemoteTraceback,
    TaskRunFailed,
    TerminationSignal,
    WaitTimeout,
    allow_exceptions,
    qualified_name,
)
from shared.exceptions_as_data import ExceptionData, describe_exception, rebuild_exception
from shared.states import StateType

FAILED, CRASHED, CANCELLED = StateType.FAILED, StateType.CRASHED, StateType.CANCELLED
HERE = __name__


class ShopError(Exception):
    pass


class RegisteredError(Exception):
    pass


class PairError(Exception):
    """Takes two arguments, and keeps one."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class SlyError(Exception):
    """Not what its class promises."""

    def __new__(cls, *_arguments: object) -> Any:
        return ValueError("sly") if _arguments else super().__new__(cls)


class OwnArgsError(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override] # as users may write
        raise RuntimeError


allow_exceptions(RegisteredError, PairError, SlyError)


def throw(error: BaseException) -> None:
    raise error


def raised(error: BaseException) -> BaseException:
    """The exception after it was raised here, so that it has a traceback."""
    try:
        throw(error)
    except BaseException as caught:  # noqa: BLE001 - any kind is wanted
        return caught
    raise AssertionError


def from_afar(error: BaseException, state_type: StateType = FAILED, message: str | None = None) -> BaseException:
    """What a reader in another process raises."""
    return rebuild_exception(describe_exception(raised(error)), state_type, message, "run-1")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("x", 2),
        ZeroDivisionError(),
        OSError(2, "No such file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        TimeoutError("mine"),
        ValueError(None, True, -(2**63), 2**63 - 1, 1.5, "ä", b"\x00"),
        InvalidValue("x"),
        WaitTimeout(),
        RegisteredError("x"),
    ],
    ids=repr,
)
def test_builtins_ours_and_registered_ones_come_back_as_themselves(error: Exception) -> None:
    rebuilt = from_afar(error)
    assert (type(rebuilt), rebuilt.args, str(rebuilt)) == (type(error), error.args, str(error))


def test_file_names_come_back_too() -> None:
    one, two = (
        from_afar(FileNotFoundError(2, "No such file", "a")),
        from_afar(OSError(18, "Cross-device", "a", None, "b")),
    )
    assert isinstance(one, FileNotFoundError)
    assert isinstance(two, OSError)
    assert (str(one), one.filename) == ("[Errno 2] No such file: 'a'", "a")
    assert (str(two), two.filename, two.filename2) == ("[Errno 18] Cross-device: 'a' -> 'b'", "a", "b")


@pytest.mark.parametrize(
    ("state_type", "wrapper"), [(FAILED, TaskRunFailed), (CRASHED, CrashedRun), (CANCELLED, CancelledRun)]
)
def test_any_other_class_comes_as_the_wrapper_for_that_end(state_type: StateType, wrapper: type[Exception]) -> None:
    rebuilt: Any = from_afar(ShopError("empty"), state_type)
    assert (type(rebuilt), str(rebuilt)) == (wrapper, "ShopError: empty")
    assert (rebuilt.type_name, rebuilt.run_id) == (f"{HERE}.ShopError", "run-1")
    assert rebuilt.traceback.endswith("ShopError: empty\n")


def test_nothing_is_imported_because_of_data() -> None:
    before = set(sys.modules)
    for name in ("antigravity.Up", "os.system", "xml.dom.minidom.Node", "__import__", "", "." * 100):
        rebuilt = rebuild_exception(ExceptionData(name, "m", ("x",)), FAILED)
        assert type(rebuilt) is TaskRunFailed
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "name", ["int", "print", "eval", "type", "object", "BaseException", "shared.errors.qualified_name"]
)
def test_what_is_no_exception_is_not_called(name: str) -> None:
    assert type(rebuild_exception(ExceptionData(name, "m", ("x",)), FAILED)) is TaskRunFailed


@pytest.mark.parametrize(
    "error",
    [
        PairError("a", "b"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "r").with_traceback(None),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_class_whose_constructor_refuses_comes_as_the_wrapper(error: Exception) -> None:
    data = describe_exception(error)
    wrong = ExceptionData(data.type_name, data.message, ("one",))
    rebuilt: Any = rebuild_exception(wrong, FAILED)
    assert (type(rebuilt), str(rebuilt)) == (TaskRunFailed, f"{type(error).__name__}: {error}")


def test_a_class_whose_constructor_gives_something_else_comes_as_the_wrapper() -> None:
    rebuilt = rebuild_exception(ExceptionData(qualified_name(SlyError), "m", ("x",)), FAILED)
    assert (type(rebuilt), str(rebuilt)) == (TaskRunFailed, "SlyError: m")


@pytest.mark.parametrize(
    "argument",
    [object(), [1], (1,), {"a": 1}, 2**63, -(2**63) - 1, StateType.FAILED, "\ud800", b"x" * 5000, ValueError()],
    ids=lambda value: type(value).__name__,
)
def test_arguments_that_are_no_plain_values_do_not_travel(argument: object) -> None:
    assert describe_exception(ValueError(argument)).arguments is None
    assert type(from_afar(ValueError(argument))) is TaskRunFailed


def test_too_many_or_too_long_arguments_do_not_travel() -> None:
    assert describe_exception(ValueError(*range(33))).arguments is None
    assert describe_exception(ValueError("x" * 3000, "y" * 3000)).arguments is None
    assert describe_exception(ValueError(*range(32))).arguments == tuple(range(32))
    assert describe_exception(ValueError("x" * 4096)).arguments == ("x" * 4096,)


def test_what_is_said_to_be_an_interrupt_is_none_of_the_readers_exceptions() -> None:
    data = ExceptionData("ValueError", "x", ("x",), is_interrupt=True)
    assert type(rebuild_exception(data, FAILED)) is CrashedRun


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), asyncio.CancelledError(), TerminationSignal(15)],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("state_type", [FAILED, CRASHED])
def test_an_interrupt_from_afar_comes_as_a_crash_with_the_states_message(
    error: BaseException, state_type: StateType
) -> None:
    rebuilt: Any = from_afar(error, state_type, "Execution was aborted.")
    assert (type(rebuilt), str(rebuilt)) == (CrashedRun, "Execution was aborted.")
    assert rebuilt.type_name == qualified_name(type(error))
    assert str(from_afar(error, state_type)) == "Run crashed."


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_the_end_of_an_iteration_comes_as_the_wrapper(kind: type[Exception]) -> None:
    rebuilt = from_afar(kind("x"))
    assert (type(rebuilt), str(rebuilt)) == (TaskRunFailed, f"{kind.__name__}: x")


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(builtins).values() if isinstance(kind, type) and issubclass(kind, BaseException)]
)
def test_no_builtin_ends_its_reader(kind: type[BaseException]) -> None:
    data = ExceptionData(kind.__name__, "m", ("x",))
    assert isinstance(rebuild_exception(data, FAILED), Exception)


def test_the_traceback_of_the_other_process_is_shown_with_this_ones() -> None:
    rebuilt = from_afar(ValueError("x"))
    assert isinstance(rebuilt.__cause__, RemoteTraceback)
    text = "".join(traceback.format_exception(raised(rebuilt)))
    assert text.count("in throw") == 2
    assert text.index("ValueError: x") < text.index("direct cause")


def test_a_traceback_shows_no_local_variables() -> None:
    def fail(secret: str) -> None:
        raise ShopError(len(secret))

    with pytest.raises(ShopError) as caught:
        fail(str(4711 * 2))
    trace = describe_exception(caught.value).traceback or ""
    assert ("in fail" in trace, "9422" in trace) == (True, False)


def test_without_a_traceback_there_is_no_cause() -> None:
    assert rebuild_exception(ExceptionData("ValueError", "x", ("x",)), FAILED).__cause__ is None


def test_an_exception_without_text_is_described_by_its_type() -> None:
    data = describe_exception(raised(UnprintableError()))
    assert data.message == "<unprintable UnprintableError>"
    assert str(from_afar(UnprintableError())) == "UnprintableError: <unprintable UnprintableError>"


def test_a_class_with_arguments_of_its_own_making_is_described() -> None:
    assert describe_exception(raised(OwnArgsError("x"))).arguments == ("x",)


def test_a_group_comes_as_a_wrapper_that_lists_its_members() -> None:
    group = ExceptionGroup("several", [ValueError("a"), ExceptionGroup("inner", [KeyError("b"), UnprintableError()])])
    rebuilt = from_afar(group)
    assert type(rebuilt) is TaskRunFailed
    assert str(rebuilt) == (
        "ExceptionGroup: several (2 sub-exceptions): "
        "ValueError: a; KeyError: 'b'; UnprintableError: <unprintable UnprintableError>"
    )


def test_a_group_with_an_interrupt_is_an_interrupt() -> None:
    group = BaseExceptionGroup("several", [KeyboardInterrupt(), ValueError("a")])
    assert type(from_afar(group, CRASHED, "told")) is CrashedRun


def test_a_large_or_deep_group_is_described_in_bounds() -> None:
    group: Any = ExceptionGroup("wide", [ValueError("x" * 5000) for _ in range(1000)])
    for _ in range(200):
        group = ExceptionGroup("deep", [group])
    data = describe_exception(group)
    assert len(data.message.encode()) <= 4096
    assert len((data.traceback or "").encode()) <= 16_384


def test_of_a_wide_group_the_first_twenty_members_are_told() -> None:
    group = ExceptionGroup("wide", [ValueError(number) for number in range(30)])
    told = "; ".join(f"ValueError: {number}" for number in range(20))
    assert describe_exception(group).message == f"wide (30 sub-exceptions): {told}"


def test_a_huge_message_is_cut_and_the_class_kept() -> None:
    error = ValueError("ä" * 1_000_000)
    data = describe_exception(raised(error))
    assert len(data.message.encode()) <= 4096
    assert data.message.endswith("...")
    assert data.traceback is not None
    assert len(data.traceback.encode()) <= 16_384
    rebuilt = from_afar(error)
    assert (type(rebuilt), str(rebuilt)) == (ValueError, data.message)


def test_control_characters_are_shown_escaped_and_kept_in_the_arguments() -> None:
    data = describe_exception(raised(ValueError("\x1b[31m")))
    assert (data.message, data.arguments) == ("\\x1b[31m", ("\x1b[31m",))
    assert "\x1b" not in (data.traceback or "")


class UnshowableError(Exception):
    """Cannot even be shown in a traceback."""

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override] # as users may write
        raise RuntimeError


def test_an_exception_that_no_traceback_can_be_made_of_is_described_without() -> None:
    data = describe_exception(raised(UnshowableError("x")))
    assert (data.type_name, data.message, data.traceback) == (f"{HERE}.UnshowableError", "x", None)


def test_a_cause_is_told_in_the_traceback() -> None:
    error = ShopError("outer")
    error.__cause__ = raised(ValueError("inner"))
    trace = describe_exception(raised(error)).traceback or ""
    assert trace.index("ValueError: inner") < trace.index("ShopError: outer")


plain_arguments = st.lists(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=10)
    | st.binary(max_size=10),
    max_size=5,
)


@given(plain_arguments)
def test_plain_arguments_survive_the_way(arguments: list[Any]) -> None:
    assert from_afar(RegisteredError(*arguments)).args == tuple(arguments)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
name_or_anything = anything | st.sampled_from(["ValueError", "OSError", "UnicodeDecodeError", "ExceptionGroup"])


@given(
    st.builds(ExceptionData, name_or_anything, anything, anything, anything, anything),
    st.sampled_from([FAILED, CRASHED, CANCELLED]),
)
def test_damaged_data_gives_an_exception_nevertheless(data: ExceptionData, state_type: StateType) -> None:
    rebuilt = rebuild_exception(data, state_type, "told")
    assert isinstance(rebuilt, Exception)
    assert "".join(traceback.format_exception(rebuilt))


def test_of_damaged_data_what_can_be_read_is_told() -> None:
    stored: list[Any] = [["ValueError"], "m", "x", 5, 1]
    rebuilt: Any = rebuild_exception(ExceptionData(*stored), FAILED)
    assert (type(rebuilt), str(rebuilt), rebuilt.traceback) == (TaskRunFailed, "UnknownError: m", None)


def test_arguments_that_became_a_list_are_taken() -> None:
    stored: Any = ["x", 2]
    assert rebuild_exception(ExceptionData("KeyError", "m", stored), FAILED).args == ("x", 2)


def test_forged_data_is_held_to_the_same_bounds() -> None:
    forged = ExceptionData("x" * 10**6, "m" * 10**6, ("a" * 10**6,) * 100, "t" * 10**6)
    rebuilt: Any = rebuild_exception(forged, FAILED)
    assert [len(text) for text in (rebuilt.type_name, rebuilt.traceback)] == [4096, 16_384]
    assert len(str(rebuilt)) == 4096 + len(": ") + 4096
