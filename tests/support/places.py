"""A run in each place and state there is: each function makes one in queue `q` of an empty store and answers its id."""

from shared.commands import Seat
from shared.upkeep import Death, Pulse
from tests.support.ledgers import (
    FAILED,
    KEPT,
    PAUSED_IN_PLACE,
    Store,
    ended,
    held_by,
    one_begun,
    one_submitted,
    report,
    reported,
    retry_in,
    seated,
    suspended_for,
)

LIMITED = {"limits": "tag:db", "ties": "1"}
FLOW = {"kind": "flow", "ties": "1"}


# --- held by nobody ---------------------------------------------------------------------------------------------------


def queued(store: Store) -> str:
    return one_submitted(store.ledger)


def scheduled(store: Store) -> str:
    return one_submitted(store.ledger, delay=KEPT)


def deferred(store: Store) -> str:
    """Its upstream waits in another queue."""
    return one_submitted(store.ledger, ties=[("up", one_submitted(store.ledger, queue="other"))])


def passed_on(store: Store) -> str:
    """`w1` does not know its task."""
    run_id = one_submitted(store.ledger)
    store.ledger.beat([Pulse("w1", ["q"], {"tasks": "shop.other"}, is_new=True)])
    assert store.ledger.cycle(Seat("w1", ["q"]), [], 1).claims == []
    return run_id


def waiting_for_a_slot(store: Store) -> str:
    """Its limit `tag:db` has none."""
    store.ledger.set_limit("tag:db", 0)
    run_id = one_submitted(store.ledger, fields=LIMITED)
    assert store.ledger.cycle(seated(store.ledger), [], 1).claims == []
    return run_id


def tried_again_later(store: Store) -> str:
    seat, claim = held_by(store.ledger)
    assert reported(store.ledger, seat, report(claim, retry_in(KEPT))) == ["OK"]
    return claim.run_id


def suspended(store: Store) -> str:
    seat, claim = held_by(store.ledger)
    assert reported(store.ledger, seat, report(claim, suspended_for(KEPT))) == ["OK"]
    return claim.run_id


# --- held by `w1` -----------------------------------------------------------------------------------------------------


def running(store: Store) -> str:
    return held_by(store.ledger)[1].run_id


def cancelling(store: Store) -> str:
    run_id = running(store)
    store.ledger.cancel([run_id])
    return run_id


def handed_out(store: Store) -> str:
    """It has an upstream, and did not start yet."""
    seat, upstream = seated(store.ledger), one_submitted(store.ledger)
    ended(store.ledger, seat, upstream)
    run_id = one_submitted(store.ledger, ties=[("up", upstream)])
    assert one_begun(store.ledger, seat).state == "PENDING"
    return run_id


def paused_in_place(store: Store) -> str:
    """A flow that waits for its resumption in its process."""
    _, claim = held_by(store.ledger, fields=FLOW)
    answer = store.ledger.propose(claim.run_id, PAUSED_IN_PLACE, "pause", token=claim.token, worker="w1")
    assert (answer.tag, answer.token) == ("OK", claim.token)
    return claim.run_id


# --- ended ------------------------------------------------------------------------------------------------------------


def completed(store: Store) -> str:
    run_id = one_submitted(store.ledger)
    ended(store.ledger, seated(store.ledger), run_id)
    return run_id


def failed(store: Store) -> str:
    run_id = one_submitted(store.ledger)
    ended(store.ledger, seated(store.ledger), run_id, FAILED._replace(traceback="Traceback"))
    return run_id


def crashed(store: Store) -> str:
    _, claim = held_by(store.ledger, fields={"on_crash": "fail"})
    store.ledger.reap([Death("w1", "killed by signal 9")])
    return claim.run_id


def cancelled(store: Store) -> str:
    run_id = one_submitted(store.ledger)
    store.ledger.cancel([run_id])
    return run_id


def needed(store: Store) -> str:
    """It has completed, and a run that needs its result has not begun."""
    run_id = completed(store)
    one_submitted(store.ledger, ties=[("up", run_id)])
    return run_id


UNHELD = (queued, scheduled, deferred, passed_on, waiting_for_a_slot, tried_again_later, suspended)
HELD = (running, cancelling, handed_out, paused_in_place)
ENDED = (completed, failed, crashed, cancelled, needed)
EVERYWHERE = (*UNHELD, *HELD, *ENDED)
