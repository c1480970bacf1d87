"""Futures inside of nested values, replaced by their results or final states, where `visit_collection` finds them."""

from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.future_list import RunFutureList
from orchestrator.futures import RunFuture
from orchestrator.gathering import as_completed
from shared.annotations import allow_failure
from shared.collections import StopVisiting, visit_collection
from shared.errors import RunGone

Place = Callable[[RunFuture[Any], bool], Any]
"""What takes a future's place; told whether an annotation around it allows its run to fail."""


def resolve_futures_to_data(expr: Any, raise_on_failure: bool = True) -> Any:
    """`expr` with the result of each future in its place; the very same object if there is none in it.

    All are waited for at the same time. With `raise_on_failure` the first failure in time is raised; otherwise, and
    under `allow_failure`, a failed run's exception takes the place. States in `expr` stay states, annotations stay
    around what was resolved, a list of futures becomes a plain list.

    Raises:
        RunGone: a run is not there any more, where its failure is not allowed.
        InvalidCall: a result cannot go where its future was, such as an unhashable one into a set.
        LimitExceeded: the nesting is too deep.
    """
    futures = _futures_in(expr)
    for future in as_completed(futures):
        if raise_on_failure and not futures[future]:
            future.result()
    return _with_data(expr, futures, raise_on_failure=raise_on_failure)


async def aresolve_futures_to_data(expr: Any, raise_on_failure: bool = True) -> Any:
    """The same as `resolve_futures_to_data`, without blocking the event loop."""
    futures = _futures_in(expr)
    async for future in as_completed(futures):
        if raise_on_failure and not futures[future]:
            await future.aresult()
    return _with_data(expr, futures, raise_on_failure=raise_on_failure)


def resolve_futures_to_states(expr: Any) -> Any:
    """`expr` with the final state of each future in its place; the very same object if there is none in it.

    Raises:
        RunGone: a run is not there any more.
        InvalidCall, LimitExceeded: as `resolve_futures_to_data`.
    """
    futures = _futures_in(expr)
    _wait_for(as_completed(futures))
    return _replaced(expr, futures, lambda future, _allowed: future.get_state())


async def aresolve_futures_to_states(expr: Any) -> Any:
    """The same as `resolve_futures_to_states`, without blocking the event loop."""
    futures = _futures_in(expr)
    async for _ in as_completed(futures):
        pass
    return _replaced(expr, futures, lambda future, _allowed: future.get_state())


def _futures_in(expr: Any) -> dict[RunFuture[Any], bool]:
    """Every future that a visit finds, and whether it may fail in all its places."""
    found: dict[RunFuture[Any], bool] = {}

    def collect(value: Any, *, allowed: bool) -> None:
        def visit(element: Any) -> Any:
            if isinstance(element, allow_failure) and not allowed:
                collect(element.value, allowed=True)
                raise StopVisiting(element)
            if isinstance(element, RunFuture):
                found[element] = found.get(element, True) and allowed
            return element

        visit_collection(value, visit, return_data=False)

    collect(expr, allowed=False)
    return found


def _replaced(expr: Any, futures: dict[RunFuture[Any], bool], place: Place) -> Any:
    if not futures:
        return expr

    def put(value: Any, *, allowed: bool) -> Any:
        def visit(element: Any) -> Any:
            if isinstance(element, allow_failure) and not allowed:
                raise StopVisiting(element.rewrap(put(element.value, allowed=True)))
            if isinstance(element, RunFuture):
                raise StopVisiting(place(element, allowed))  # what a run returned is not looked into
            return list(element) if isinstance(element, RunFutureList) and element else element

        return visit_collection(value, visit)

    return put(expr, allowed=False)


def _with_data(expr: Any, futures: dict[RunFuture[Any], bool], *, raise_on_failure: bool) -> Any:
    def data(future: RunFuture[Any], allowed: bool) -> Any:
        if raise_on_failure and not allowed:
            return future.result()
        try:
            return future.result(raise_on_failure=False)
        except RunGone as error:
            return error

    return _replaced(expr, futures, data)


def _wait_for(futures: Iterable[RunFuture[Any]]) -> None:
    for _ in futures:
        pass
