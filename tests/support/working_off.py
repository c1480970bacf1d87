"""Another worker that takes over all runs of the stories, until they have ended."""

from shared.commands import Claim, Outcome
from shared.ledger import RunLedger
from shared.state_types import TERMINAL_STATES
from shared.upkeep import Death
from tests.support.ledgers import RUNNING, Store, report, reported, seated
from tests.support.waiting import eventually

WORKERS = ("w1", "t1", "t2", "t3", "t4", "t5")
QUEUES = ("q", "other", "t", "u", "v", "f", "s", "w")


def worked_off(store: Store, *run_ids: str) -> None:
    """Another worker takes all that there is, and who waits for a person or a time hears, until these have ended."""
    ledger, left = store.ledger, set(run_ids)
    ledger.reap([Death(worker, "") for worker in WORKERS])
    ledger.set_limit("tag:db", 50)
    seat = seated(ledger, "last", *QUEUES)

    def all_ended() -> bool:
        left.difference_update([run_id for run_id in left if has_ended(ledger, run_id)])
        ledger.promote()
        for claim in ledger.cycle(seat, [], 16).claims:
            assert reported(ledger, seat, report(started(ledger, claim))) == ["OK"]
        return not left

    assert eventually(all_ended)


def has_ended(ledger: RunLedger, run_id: str) -> bool:
    """True for a run that is over, or gone; one that waits for a person or a time goes on."""
    run = ledger.get_many([run_id])[run_id]
    if run is None or run.state.type in TERMINAL_STATES:
        return True
    if run.state.type == "PAUSED":
        ledger.resume(run_id, run.seq, "go on")
    elif run.state.type == "SCHEDULED":
        ledger.force(run_id, run.seq, "now", Outcome("PENDING", "Pending", "now"))
    return False


def started(ledger: RunLedger, claim: Claim) -> Claim:
    """The claim, begun if it was handed out before its start."""
    if claim.state == "RUNNING":
        return claim
    begun = ledger.propose(claim.run_id, RUNNING, "start", token=claim.token, worker="last")
    assert begun.tag == "OK"
    return claim._replace(token=begun.token)
