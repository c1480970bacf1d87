"""Digests of sources: an edit gives another one, the place and the moment do not."""

import functools
import importlib.util
import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.cache import INPUTS, TASK_SOURCE
from shared.errors import HashError
from shared.sources import source_digest
from shared.specs import describe

ONE, TWO = "def work(x):\n    return x + 1\n", "def work(x):\n    return x + 2\n"
LATE = "\n\n# moved down\n" + ONE


class Adder:
    def __call__(self, a: int) -> int:
        return a

    def method(self, a: int) -> int:
        return a


def typed(source: str) -> Callable[..., Any]:
    """A function without a file, as one typed at a prompt."""
    namespace: dict[str, Any] = {"__name__": "typed"}
    exec(source, namespace)  # noqa: S102 - the simplest way to a function without source text
    found: Callable[..., Any] = namespace["work"]
    return found


def loaded(path: Path, source: str, fresh: int = 0) -> Callable[..., Any]:
    """The function of a module with this text."""
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(f"{path.stem}{fresh}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    exec(compile(source, path, "exec"), vars(module))  # noqa: S102 - without the compiled copy that an edit may outrun
    found: Callable[..., Any] = module.work
    return found


def test_an_edit_of_the_body_gives_another_digest_and_its_place_does_not(tmp_path: Path) -> None:
    digests = [source_digest(loaded(tmp_path / f"{n}.py", text)) for n, text in enumerate((ONE, TWO, LATE))]
    assert (digests[0] == digests[2], digests[0] == digests[1]) == (True, False)


def test_without_source_text_the_code_counts() -> None:
    digests = [source_digest(typed(text)) for text in (ONE, TWO, LATE)]
    assert (digests[0] == digests[2], digests[0] == digests[1]) == (True, False)


@pytest.mark.parametrize(
    "texts",
    [
        ("def work(x): return x in {1, 2}", "def work(x): return x in {1, 3}"),
        ("def work(x): return x.a", "def work(x): return x.b"),
        ("def work(x): return 1", "def work(x): return True"),
        ("def work(x): return lambda: 1", "def work(x): return lambda: 2"),
    ],
    ids=["set", "name", "type", "inner"],
)
def test_code_differs_in_all_that_it_does(texts: tuple[str, str]) -> None:
    first, second = map(typed, texts)
    assert source_digest(first) == source_digest(typed(texts[0])) != source_digest(second)


def test_all_kinds_of_functions_have_a_digest() -> None:
    kinds: list[Callable[..., Any]] = [
        Adder(),
        Adder().method,
        functools.partial(Adder().method, 1),
        functools.partial(Adder().method, a=1),
        functools.partial(Adder().method, 2),
        lambda a: a,
    ]
    digests = [source_digest(fn) for fn in kinds]
    assert (len(set(digests)), digests) == (len(kinds), [source_digest(fn) for fn in kinds])


def test_of_a_decorated_function_the_inner_one_counts(tmp_path: Path) -> None:
    inner = loaded(tmp_path / "inner.py", ONE)

    @functools.wraps(inner)
    def outer(x: int) -> Any:
        return inner(x)

    assert source_digest(outer) == source_digest(inner)


def test_what_is_made_of_neither_has_none() -> None:
    with pytest.raises(HashError, match="neither source text nor code: leave TASK_SOURCE out"):
        source_digest(len)
    with pytest.raises(HashError, match="leave TASK_SOURCE out"):
        describe(len, key="k", cache_policy=TASK_SOURCE)


def test_the_source_is_read_when_the_task_is_defined_and_an_edit_of_the_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "edited.py"
    before = describe(loaded(path, ONE), cache_policy=INPUTS + TASK_SOURCE)
    path.write_text(TWO * 2)
    linecache.checkcache(str(path))
    assert before.source == source_digest(loaded(tmp_path / "other.py", ONE))


def test_nobody_reads_a_source_that_no_key_needs() -> None:
    assert (describe(typed(ONE)).source, describe(len, cache_policy=INPUTS, key="k").source) == (None, None)
