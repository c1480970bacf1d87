"""Futures inside of nested values, replaced by their results or final states, where `visit_collection` finds them."""

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from orchestrator.future_list import RunFutureList
from orchestrator.futures import RunFuture
from orchestrator.gathering import as_completed
from shared.annotations import allow_failure
from shared.collections import StopVisiting, visit_collection
from shared.errors import RunGone


def resolve_futures_to_data(expr: Any, raise_on_failure: bool = True) -> Any:
    """`expr` with the result of each future in its place; the very same object if there is none in it.

    All are waited for at the same time. With `raise_on_failure` the first failure in time is raised; otherwise, and
    under `allow_failure`, a failed run's exception takes the place. States in `expr` stay states, annotations stay
    around what was resolved, a list of futures becomes a plain list.

    Raises:
        RunGone: a run is not there any more, where its failure is not allowed.
        MissingResult: a run completed, but its result was not kept, or is no longer.
        InvalidCall: a result cannot go where its future was, such as an unhashable one into a set.
        LimitExceeded: the nesting is too deep.
    """
    may_fail = _futures_in(expr)
    results: dict[RunFuture[Any], Any] = {}
    for future in as_completed(may_fail):
        raises = raise_on_failure and not may_fail[future]
        try:
            results[future] = future.result(None, raises)
        except RunGone as error:
            if raises:
                raise
            results[future] = error
    return _replaced(expr, results)


async def aresolve_futures_to_data(expr: Any, raise_on_failure: bool = True) -> Any:
    """The same as `resolve_futures_to_data`, without blocking the event loop."""
    may_fail = _futures_in(expr)
    results: dict[RunFuture[Any], Any] = {}
    async with aclosing(aiter(as_completed(may_fail))) as ended:
        async for future in ended:
            raises = raise_on_failure and not may_fail[future]
            try:
                results[future] = await future.aresult(None, raises)
            except RunGone as error:
                if raises:
                    raise
                results[future] = error
    return _replaced(expr, results)


def resolve_futures_to_states(expr: Any) -> Any:
    """`expr` with the final state of each future in its place; the very same object if there is none in it.

    Raises:
        RunGone: a run is not there any more.
        InvalidCall, LimitExceeded: as `resolve_futures_to_data`.
    """
    return _replaced(expr, {future: future.get_state() for future in as_completed(_futures_in(expr))})


async def aresolve_futures_to_states(expr: Any) -> Any:
    """The same as `resolve_futures_to_states`, without blocking the event loop."""
    async with aclosing(aiter(as_completed(_futures_in(expr)))) as ended:
        return _replaced(expr, {future: future.get_state() async for future in ended})


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


def _replaced(expr: Any, found: Mapping[RunFuture[Any], Any]) -> Any:
    """`expr` with what was found of each future in its place, which is not looked into."""
    if not found:
        return expr

    def visit(element: Any) -> Any:
        if isinstance(element, RunFuture):
            raise StopVisiting(found[element])
        return list(element) if isinstance(element, RunFutureList) and element else element

    return visit_collection(expr, visit)
