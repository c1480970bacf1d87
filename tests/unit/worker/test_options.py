"""What may be set for a fleet, and what is said of what may not."""

from typing import Any

import pytest

from shared.errors import ConfigError, InvalidValue
from worker.options import FleetOptions


def test_nothing_needs_to_be_set() -> None:
    assert FleetOptions() == FleetOptions(name="", labels=(), order="strict", health_port=None, allow_eviction=False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "a b"}, "name 'a b'"),
        ({"name": "-x"}, "letter or digit first"),
        ({"name": "x" * 65}, "up to 64"),
        ({"name": "x\n"}, "name"),
        ({"name": "inline-a"}, "execute runs inline"),
        ({"labels": "gpu=1"}, "a list of texts key=value"),
        ({"labels": ["gpu"]}, "label 'gpu': write key=value"),
        ({"labels": ["=1"]}, "label '=1'"),
        ({"labels": ["a=b,c=d"]}, "label 'a=b,c=d'"),
        ({"labels": ["gpu=1", "gpu=2"]}, "'gpu' is given twice"),
        ({"grace": -1}, "grace is -1: it takes seconds, 0 or more"),
        ({"grace": float("inf")}, "grace is inf"),
        ({"order": "random"}, "one of strict, round-robin"),
        ({"max_runs": 0}, "max_runs is 0: it is a number above 0"),
        ({"max_runs": 1.5}, "max_runs is 1.5: it is a whole number"),
        ({"max_runs": True}, "max_runs is True"),
        ({"max_memory_mb": -5}, "max_memory_mb is -5"),
        ({"async_slots": 0}, "async_slots is 0: a worker process has 1 to 1000 of them"),
        ({"async_slots": 1001}, "async_slots is 1001"),
        ({"async_slots": 1.5}, "async_slots is 1.5"),
        ({"async_slots": True}, "async_slots is True"),
        ({"max_age": 0}, "max_age is 0"),
        ({"max_idle": float("nan")}, "max_idle is nan"),
    ],
)
def test_a_wrong_value_is_refused_with_what_it_takes(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        FleetOptions(**given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("health", "address"),
    [
        (None, None),
        (8080, ("127.0.0.1", 8080)),
        ("8080", ("127.0.0.1", 8080)),
        ("10.0.0.7:9000", ("10.0.0.7", 9000)),
        ("[::1]:9000", ("::1", 9000)),
    ],
)
def test_probes_are_answered_here_only_unless_a_host_is_given(health: Any, address: object) -> None:
    assert FleetOptions(health_port=health).health_address == address


@pytest.mark.parametrize("health", [0, 65536, -1, "http", ":80", "host:", "host:x", "", "٨٠"])
def test_an_address_for_probes_that_is_none_is_refused(health: Any) -> None:
    with pytest.raises(ConfigError, match="write a port from 1 to 65535, or host:port"):
        FleetOptions(health_port=health)
