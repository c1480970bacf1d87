"""Workers that are asked to finish and end: the wish lies with them, and each beat tells it."""

from shared.upkeep import Pulse
from shared.views.workers import workers
from tests.support.ledgers import Store, seated


def beaten(store: Store, *names: str) -> tuple[tuple[str, ...], bool]:
    """What the beat of these workers tells: who is to end, and whether their whole fleet is."""
    answer = store.ledger.beat([Pulse(name, ("q",), {"queues": "q", "fleet": "f"}) for name in names])
    return tuple(answer.draining), answer.drains_all


def test_a_worker_that_is_drained_is_told_so_with_every_beat(store: Store) -> None:
    seated(store.ledger, "w1")
    seated(store.ledger, "w2")
    before = beaten(store, "w1", "w2")
    tags = store.ledger.drain(["w2", "nobody"], whole_fleet=False)
    told = [beaten(store, "w1", "w2") for _ in range(2)]
    seen = {worker.name: worker.is_draining for worker in workers(store.exchange).rows}
    assert (before, tags, told, seen) == (
        ((), False),
        ["OK", "GONE"],
        [(("w2",), False)] * 2,
        {"w1": False, "w2": True},
    )


def test_a_wish_for_the_whole_fleet_is_told_if_one_of_its_workers_is_left(store: Store) -> None:
    for name in ("w1", "w2"):
        seated(store.ledger, name)
    store.ledger.drain(["w1", "w2"], whole_fleet=True)
    store.ledger.drain(["w1"], whole_fleet=False)
    assert beaten(store, "w1", "w3") == (("w1",), True)


def test_a_fleet_is_told_at_once_on_its_channel(real: Store) -> None:
    seated(real.ledger, "w1")
    beaten(real, "w1")
    with real.client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe("baton:fleet:f")
        heard.get_message(timeout=1)
        real.ledger.drain(["w1"], whole_fleet=False)
        message = heard.get_message(timeout=1)
    assert message is not None
    assert message["data"] == "w1"


def test_who_has_no_lease_or_no_registration_is_not_there_to_be_asked(store: Store) -> None:
    seated(store.ledger, "w1")
    seated(store.ledger, "w2")
    store.client.zrem("baton:leases", "w1")
    store.client.delete("rq:worker:w2")
    asked = store.ledger.drain(["w1", "w2"], whole_fleet=False)
    assert (asked, store.client.exists("rq:worker:w2")) == (["GONE", "GONE"], 0)
