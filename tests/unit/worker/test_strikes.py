"""Blocks that end for different reasons, one within the other: each by the same signal."""

import signal
import threading

import pytest

from shared.errors import TerminationSignal
from worker.leases import Lease
from worker.losses import ended_with
from worker.strikes import SIGNAL, interruptible, strike

LONG = 30.0


def test_a_body_is_ended_while_it_holds_something_under_a_lease() -> None:
    before = signal.getsignal(SIGNAL)
    wanted: list[bool] = []
    told = ""
    try:
        with interruptible(lambda: bool(wanted)), ended_with(Lease(LONG), RuntimeError("lost")):
            wanted.append(True)
            strike()
    except TerminationSignal:
        told = "ended"
    assert (told, signal.getsignal(SIGNAL)) == ("ended", before)


def lose(lease: Lease) -> None:
    """As it is lost: in another thread."""
    loser = threading.Thread(target=lease.lose)
    loser.start()
    loser.join()


def test_of_two_leases_the_loss_of_the_outer_one_ends_the_inner_block_too() -> None:
    outer, inner = Lease(LONG), Lease(LONG)
    with (
        pytest.raises(RuntimeError, match="outer"),
        ended_with(outer, RuntimeError("outer")),
        ended_with(inner, RuntimeError("inner")),
    ):
        lose(outer)


def test_a_block_that_took_notice_of_a_loss_is_struck_no_more() -> None:
    lease, caught = Lease(LONG), []
    with ended_with(lease, RuntimeError("lost")):
        try:
            lose(lease)
        except RuntimeError as error:
            caught.append(str(error))
        strike()
    assert caught == ["lost"]
