import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from shared.annotations import Annotation, allow_failure, opaque, quote, unmapped

CLASSES: list[type[Annotation[Any]]] = [unmapped, allow_failure, quote, opaque]
each_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)


@each_class
def test_an_annotation_gives_its_value_back_as_the_same_object(kind: type[Annotation[Any]]) -> None:
    value = ["x"]
    assert kind(value).unwrap() is value


@each_class
def test_rewrapping_puts_the_same_annotation_around_another_value(kind: type[Annotation[Any]]) -> None:
    rewrapped = kind(1).rewrap("x")
    assert (type(rewrapped), rewrapped.unwrap()) == (kind, "x")


@each_class
def test_an_annotation_shows_as_its_call(kind: type[Annotation[Any]]) -> None:
    assert repr(kind(5)) == f"{kind.__name__}(5)"


def test_equal_are_annotations_of_one_class_with_equal_values() -> None:
    made = [kind(value) for kind in CLASSES for value in (1, 2)]
    again = [kind(value) for kind in CLASSES for value in (1, 2)]
    assert [[one == other for other in again] for one in made] == [
        [position == other for other in range(len(made))] for position in range(len(made))
    ]


def test_an_annotation_is_not_equal_to_its_value() -> None:
    annotated: Any = unmapped(1)
    assert annotated != 1
    assert [annotated] != [1]


def test_an_annotation_is_hashable_if_its_value_is() -> None:
    assert len({quote("x"), quote("x"), quote("y")}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(quote([]))


@pytest.mark.parametrize("use", [iter, len, tuple, lambda value: value[0]], ids=["iter", "len", "tuple", "index"])
def test_an_annotation_is_neither_a_tuple_nor_iterable(use: Callable[[Any], object]) -> None:
    assert not isinstance(unmapped((1, 2)), tuple)
    with pytest.raises(TypeError):
        use(unmapped((1, 2)))


def test_an_annotation_cannot_be_changed() -> None:
    annotated = opaque(1)
    with pytest.raises(FrozenInstanceError):
        annotated.value = 2  # type: ignore[misc] # what is refused here
    with pytest.raises((AttributeError, TypeError)):
        annotated.other = 2  # type: ignore[attr-defined] # what is refused here
    assert annotated == opaque(1)


def test_annotations_nest_in_any_order_and_every_layer_counts() -> None:
    one: Any = unmapped(allow_failure(1))
    other: Any = allow_failure(unmapped(1))
    assert one != other
    assert (repr(one), repr(other)) == ("unmapped(allow_failure(1))", "allow_failure(unmapped(1))")
    assert one.unwrap().unwrap() == other.unwrap().unwrap() == 1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])  # noqa: S301 - our own bytes
def test_a_copied_annotation_is_equal(copied: Callable[[Any], object]) -> None:
    assert copied(allow_failure(quote([1]))) == allow_failure(quote([1]))
