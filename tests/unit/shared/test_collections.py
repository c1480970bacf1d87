import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import InitVar, dataclass, field
from enum import Enum
from itertools import count
from typing import Any, NamedTuple
from unittest.mock import MagicMock, Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr, field_validator

from shared.annotations import Annotation, allow_failure, opaque, quote, unmapped
from shared.collections import StopVisiting, objects_in, visit_collection
from shared.errors import InvalidCall, InvalidValue, LimitExceeded


def raised(value: Any) -> Any:
    """Integers become one greater; all else stays."""
    return value + 1 if type(value) is int else value


def unchanged(value: Any) -> Any:
    return value


def visited(expr: Any, **options: Any) -> list[Any]:
    """What the visiting function is given, in order."""
    seen: list[Any] = []
    visit_collection(expr, seen.append, return_data=False, **options)
    return seen


class Items(list[Any]):
    pass


class Pair(tuple[Any, ...]):
    __slots__ = ()


class Group(set[Any]):
    pass


class Fixed(frozenset[Any]):
    pass


class Table(dict[Any, Any]):
    pass


class Tally(defaultdict[str, int]):
    pass


class Point(NamedTuple):
    x: int
    label: str


class Alone(list[Any]):
    """A list that does not take its items."""

    def __init__(self) -> None:
        super().__init__([1])


made_by_init = count()


@dataclass
class Order:
    owner: Any
    items: list[Any] = field(default_factory=list)
    number: int = field(default=0, init=False)
    note: InitVar[str] = ""

    def __post_init__(self, note: str) -> None:
        next(made_by_init)
        self.number = 100


@dataclass(frozen=True)
class FrozenOrder:
    owner: Any
    checked: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "checked", True)
        next(made_by_init)


@dataclass(frozen=True, slots=True)
class SlottedOrder:
    owner: Any
    items: tuple[Any, ...] = ()


@dataclass(slots=True)
class Base:
    base: int


@dataclass
class Derived(Base):
    derived: int


class Customer(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    age: int = 0
    _secret: str = PrivateAttr("none")

    @field_validator("age")
    @classmethod
    def is_young(cls, value: int) -> int:
        if value > 100:
            raise ValueError
        return value


class FrozenCustomer(BaseModel):
    model_config = ConfigDict(frozen=True)
    orders: tuple[int, ...]


class Colour(Enum):
    RED = (1, 2)


REBUILT: list[tuple[Any, Any]] = [
    ([1, "a"], [2, "a"]),
    ((1, "a"), (2, "a")),
    ({1, "a"}, {2, "a"}),
    (frozenset({1, "a"}), frozenset({2, "a"})),
    (Items([1]), Items([2])),
    (Pair((1, 2)), Pair((2, 3))),
    (Group({1}), Group({2})),
    (Fixed({1}), Fixed({2})),
    (Point(1, "p"), Point(2, "p")),
    ({"a": 1, 5: "b"}, {"a": 2, 6: "b"}),
    (OrderedDict(b=1, a=2), OrderedDict(b=2, a=3)),
    (Table(a=1), Table(a=2)),
    (Counter({"a": 3}), Counter({"a": 4})),
    (defaultdict(int, {"a": 1}), defaultdict(int, {"a": 2})),
    (Tally(int, {"a": 1}), Tally(int, {"a": 2})),
    (SlottedOrder(1, (2,)), SlottedOrder(2, (3,))),
    (Derived(1, 2), Derived(2, 3)),
    (FrozenCustomer(orders=(1, 2)), FrozenCustomer(orders=(2, 3))),
    (unmapped(1), unmapped(2)),
    (allow_failure([1]), allow_failure([2])),
    ({(1, frozenset({1})): [({"deep": Point(1, "p")},)]}, {(2, frozenset({2})): [({"deep": Point(2, "p")},)]}),
]
rows = pytest.mark.parametrize(("expr", "expected"), REBUILT, ids=lambda value: type(value).__name__)


@rows
def test_a_collection_is_rebuilt_as_its_own_type(expr: Any, expected: Any) -> None:
    made = visit_collection(expr, raised)
    assert (made, type(made)) == (expected, type(expected))


@rows
def test_a_collection_in_which_nothing_changed_stays_the_same_object(expr: Any, expected: Any) -> None:
    assert visit_collection(expr, unchanged) is expr
    assert expr != expected  # or the row proves nothing


@rows
def test_visiting_alone_returns_nothing_and_changes_nothing(expr: Any, expected: Any) -> None:
    assert visit_collection(expr, raised, return_data=False) is None
    assert visit_collection(expr, raised) == expected


def test_only_the_collections_around_a_change_are_rebuilt() -> None:
    kept, changed = ["a"], [1]
    made = visit_collection({"kept": kept, "changed": changed}, raised)
    assert made == {"kept": ["a"], "changed": [2]}
    assert made["kept"] is kept
    assert changed == [1]


def test_the_order_of_a_dict_is_kept() -> None:
    assert list(visit_collection({"z": 1, "a": 2, "m": 3}, raised).items()) == [("z", 2), ("a", 3), ("m", 4)]


def test_a_defaultdict_keeps_its_factory() -> None:
    made = visit_collection(defaultdict(list, {"a": [1]}), raised)
    assert made["new"] == []
    assert made == {"a": [2], "new": []}


def test_elements_are_visited_outermost_first_and_from_left_to_right() -> None:
    inner = (2, 3)
    expr = [1, inner, {"k": 4}]
    assert visited(expr) == [expr, 1, inner, 2, 3, {"k": 4}, "k", 4]


class Opened:
    """Not a collection, though it has parts."""

    def __init__(self) -> None:
        self.parts = [1]

    def __iter__(self) -> Iterator[int]:
        raise AssertionError

    def __len__(self) -> int:
        raise AssertionError


@pytest.mark.parametrize(
    "element",
    [
        "text",
        b"bytes",
        bytearray(b"bytes"),
        1.5,
        None,
        range(3),
        iter([1]),
        (number for number in (1, 2)),
        map(raised, [1]),
        deque([1]),
        Mock(spec=list),
        MagicMock(spec=dict),
        MagicMock(spec=Customer),
        Opened(),
        Colour.RED,
        int,
        Customer,
        SlottedOrder,
        raised,
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_other_object_is_handed_over_as_a_whole(element: Any) -> None:
    expr = [element]
    assert visited(expr) == [expr, element]
    assert visit_collection(expr, unchanged) is expr


def test_reading_an_iterator_is_left_to_its_owner() -> None:
    generator = (number for number in (1, 2))
    visit_collection([generator], raised)
    assert list(generator) == [1, 2]


def test_a_changed_dataclass_is_made_without_its_initialisers() -> None:
    order, frozen = Order(1, [1]), FrozenOrder(1)
    before = next(made_by_init)
    made = visit_collection([order, frozen], raised)
    assert next(made_by_init) == before + 1
    assert (made[0].owner, made[0].items, made[0].number, type(made[0])) == (2, [2], 101, Order)
    assert (made[1].owner, made[1].checked, type(made[1])) == (2, True, FrozenOrder)
    assert (order.owner, frozen.owner) == (1, 1)


def test_what_a_dataclass_holds_beside_its_fields_is_kept() -> None:
    order = Order(1)
    order.beside = [1]  # type: ignore[attr-defined] # on purpose
    assert visit_collection(order, raised).beside == [1]


def test_a_changed_model_is_made_without_validation_and_keeps_what_is_not_shown() -> None:
    customer = Customer.model_validate({"name": "n", "age": 100, "visits": 1})
    customer._secret = "known"  # noqa: S105 - no password
    made = visit_collection(customer, raised)
    assert (made.name, made.age, made.visits, made._secret) == ("n", 101, 2, "known")
    assert (made.model_fields_set, made.model_extra) == ({"name", "age", "visits"}, {"visits": 2})
    assert made.model_dump() == {"name": "n", "age": 101, "visits": 2}
    assert (customer.age, customer.model_extra) == (100, {"visits": 1})


def test_a_changed_model_shares_no_private_attributes() -> None:
    customer = Customer(name="n", age=1)
    made = visit_collection(customer, raised)
    made._secret = "other"  # noqa: S105 - no password
    assert (customer._secret, made.model_fields_set) == ("none", {"name", "age"})


def test_a_list_that_contains_itself_points_to_the_rebuilt_one() -> None:
    expr: list[Any] = [1]
    expr.append(expr)
    made = visit_collection(expr, raised)
    assert made[0] == 2
    assert made[1] is made
    assert made is not expr


def test_a_circle_through_dicts_dataclasses_and_models_points_to_what_was_rebuilt() -> None:
    table: dict[str, Any] = {"one": 1}
    order = Order(owner=table)
    customer = Customer.model_validate({"name": "n", "order": order})
    table["customer"] = customer
    made = visit_collection(table, raised)
    assert made["one"] == 2
    assert made["customer"].order.owner is made
    assert (table["one"], customer.model_extra, order.owner) == (1, {"order": order}, table)


def test_a_circle_is_rebuilt_although_the_change_lies_outside_of_the_inner_part() -> None:
    inner: list[Any] = []
    outer = [inner, 1]
    inner.append(outer)
    made = visit_collection(outer, raised)
    assert made[0][0] is made
    assert inner[0] is outer


def test_a_circle_without_a_change_stays_the_same_object() -> None:
    expr: list[Any] = ["a"]
    expr.append({"back": expr})
    assert visit_collection(expr, raised) is expr


def test_a_tuple_in_a_circle_ends_too() -> None:
    inner: list[Any] = [1]
    expr = (inner,)
    inner.append(expr)
    made = visit_collection(expr, raised)
    assert made[0][0] == 2


def test_an_object_in_two_places_is_visited_once_and_rebuilt_once() -> None:
    shared = [1]
    seen: list[Any] = []

    def note(value: Any) -> Any:
        seen.append(value)
        return raised(value)

    made = visit_collection([shared, shared], note)
    assert made == [[2], [2]]
    assert made[0] is made[1]
    assert seen == [[shared, shared], shared, 1]


def test_equal_texts_and_numbers_are_visited_in_each_of_their_places() -> None:
    assert visited([1, 1, "a", "a"])[1:] == [1, 1, "a", "a"]


def test_what_the_function_returns_is_looked_into() -> None:
    assert visit_collection(["expand"], lambda value: [1, 2] if value == "expand" else raised(value)) == [[2, 3]]


def test_stop_visiting_takes_the_value_and_goes_no_deeper() -> None:
    def stop_at_tuples(value: Any) -> Any:
        if type(value) is tuple:
            raise StopVisiting([value, 10])
        return raised(value)

    assert visit_collection([(1, 2), 3], stop_at_tuples) == [[(1, 2), 10], 4]


def test_stop_visiting_works_without_return_data_too() -> None:
    seen: list[Any] = []

    def stop_at_tuples(value: Any) -> None:
        seen.append(value)
        if type(value) is tuple:
            raise StopVisiting(None)

    expr = [(1, 2), 3]
    visit_collection(expr, stop_at_tuples, return_data=False)
    assert seen == [expr, (1, 2), 3]


def nested(depth: int, innermost: Any = "x") -> Any:
    for _ in range(depth):
        innermost = [innermost]
    return innermost


def test_64_nested_collections_are_looked_into() -> None:
    assert visit_collection(nested(64, 1), raised) == nested(64, 2)


def test_the_65th_is_refused_with_its_depth_its_path_and_the_way_out() -> None:
    expr = {"parameters": {"items": [nested(62)]}}
    with pytest.raises(LimitExceeded) as caught:
        visit_collection(expr, unchanged)
    text = str(caught.value)
    assert text.startswith(f"parameters.items{'[0]' * 62} lies 65 levels deep, and 64 are looked into")
    assert "quote(...)" in text


def test_a_long_path_is_cut() -> None:
    with pytest.raises(LimitExceeded) as caught:
        visit_collection(nested(102), unchanged, max_depth=101)
    assert str(caught.value).startswith(f"{'[0]' * 100}... lies 102 levels deep")


def test_an_empty_collection_counts_as_a_level() -> None:
    with pytest.raises(LimitExceeded):
        visit_collection([[]], unchanged, max_depth=1)
    assert visit_collection([], unchanged, max_depth=1) == []


def test_quote_is_the_way_out_of_a_deep_nesting() -> None:
    assert visit_collection([quote(nested(100))], unchanged) == [quote(nested(100))]


def test_no_depth_of_nesting_exhausts_the_stack() -> None:
    depth = 3 * sys.getrecursionlimit()
    made = visit_collection(nested(depth, 1), raised, max_depth=depth)
    for _ in range(depth):
        made = made[0]
    assert made == 2


def test_an_object_in_a_circle_is_not_deep() -> None:
    expr: list[Any] = []
    expr.append(expr)
    assert visit_collection(expr, unchanged, max_depth=1) is expr


UNHASHABLE_PLACES: list[tuple[Any, str]] = [
    ({"parameters": {"items": [0, 0, 0, SlottedOrder({7})]}}, "parameters.items[3].owner{7}"),
    ([{7: "a"}], "[0]{7}"),
    ({"b": 1, 7: "a"}, "{7}"),
    (({"odd key": frozenset({7})},), "[0]['odd key']{7}"),
    (Point(FrozenCustomer.model_construct(orders={7}), "p"), "x.orders{7}"),  # type: ignore[arg-type] # any value
]


@pytest.mark.parametrize(("expr", "path"), UNHASHABLE_PLACES)
def test_an_unhashable_element_cannot_go_into_a_set_or_a_key(expr: Any, path: str) -> None:
    with pytest.raises(InvalidCall) as caught:
        visit_collection(expr, lambda value: [] if value == 7 else value)
    assert str(caught.value) == f"what was put at {path} cannot be there: unhashable type: 'list'"


def test_a_list_that_does_not_take_its_items_cannot_be_rebuilt() -> None:
    with pytest.raises(InvalidCall, match=r"the Alone at a\[0\] cannot be rebuilt: "):
        visit_collection({"a": [Alone()]}, raised)
    assert visit_collection(Alone(), unchanged) == [1]


def test_keys_that_become_equal_are_refused() -> None:
    with pytest.raises(InvalidValue, match="two keys of a dict became equal"):
        visit_collection({1: "a", 2: "b"}, lambda value: 0 if type(value) is int else value)


def test_elements_of_a_set_may_become_equal() -> None:
    assert visit_collection({1, 2}, lambda value: 0 if type(value) is int else value) == {0}


def test_an_error_of_the_function_passes() -> None:
    def fail(value: Any) -> Any:
        raise KeyError(value)

    with pytest.raises(KeyError, match="x"):
        visit_collection("x", fail)


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (unmapped(1), unmapped(2)),
        (allow_failure([1]), allow_failure([2])),
        (quote([1]), quote([1])),
        (quote(1), quote(1)),
        (opaque(1), opaque(2)),
        (opaque([1]), opaque([1])),
        (unmapped(allow_failure(1)), unmapped(allow_failure(2))),
        (allow_failure(unmapped(1)), allow_failure(unmapped(2))),
        (allow_failure(quote([1])), allow_failure(quote([1]))),
        (quote(allow_failure(1)), quote(allow_failure(1))),
        (opaque(allow_failure([1])), opaque(allow_failure([1]))),
        (opaque(allow_failure(1)), opaque(allow_failure(2))),
        (allow_failure(opaque([1])), allow_failure(opaque([1]))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_layer_of_annotations_counts(expr: Annotation[Any], expected: Annotation[Any]) -> None:
    assert visit_collection([expr], raised) == [expected]


def test_the_function_is_given_an_annotation_before_its_value() -> None:
    expr = [unmapped(1), quote([2]), opaque([3])]
    assert visited(expr) == [expr, unmapped(1), 1, quote([2]), opaque([3]), [3]]


def test_what_is_opaque_in_one_place_is_looked_into_in_another() -> None:
    value = [1]
    assert visit_collection([opaque(value), value], raised) == [opaque([1]), [2]]


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ([unmapped(1), "a"], [2, "a"]),
        (quote([1]), [1]),
        (opaque([1]), [1]),
        (unmapped(allow_failure(["a"])), ["a"]),
        ({"a": opaque(quote((1,)))}, {"a": (1,)}),
    ],
    ids=repr,
)
def test_annotations_can_be_removed_on_the_way(expr: Any, expected: Any) -> None:
    assert visit_collection(expr, raised, remove_annotations=True) == expected


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.builds(SlottedOrder, inner)
        | st.builds(unmapped, inner)
    ),
    max_leaves=20,
)


def with_integers(expr: Any, change: Callable[[int], int]) -> Any:
    """The obvious, recursive way."""
    match expr:
        case bool() | None | str():
            return expr
        case int():
            return change(expr)
        case list() | tuple():
            return type(expr)(with_integers(one, change) for one in expr)
        case dict():
            return {key: with_integers(value, change) for key, value in expr.items()}
        case SlottedOrder():
            return SlottedOrder(with_integers(expr.owner, change))
    return unmapped(with_integers(expr.unwrap(), change))


@given(plain)
def test_a_visit_changes_what_plain_recursion_would_change(expr: Any) -> None:
    assert visit_collection(expr, raised) == with_integers(expr, lambda number: number + 1)


@given(plain)
def test_without_a_change_everything_stays_the_same_object(expr: Any) -> None:
    assert visit_collection(expr, unchanged) is expr


def of_type(values: Iterable[Any], kind: type) -> list[Any]:
    return [value for value in values if isinstance(value, kind)]


def test_objects_are_found_at_any_depth_and_each_once() -> None:
    wanted = Opened()
    expr = nested(500, {"a": (wanted, {1: SlottedOrder(wanted)})})
    assert of_type(objects_in(expr), Opened) == [wanted]


def test_objects_are_looked_for_where_a_visit_would_look() -> None:
    in_quote, in_opaque, deep_in_opaque = Opened(), Opened(), Opened()
    expr = [quote([in_quote]), opaque(allow_failure(in_opaque)), opaque([deep_in_opaque])]
    assert of_type(objects_in(expr), Opened) == [in_opaque]


def test_looking_for_objects_ends_in_a_circle() -> None:
    expr: list[Any] = []
    expr.append(expr)
    assert list(objects_in(expr)) == [expr]
