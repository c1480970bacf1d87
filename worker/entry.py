"""What the job data of a run names, for programs of RQ that meet one: it refuses to run. Executes nothing."""

from shared.errors import BatonError
from shared.ids import is_id


class NotForStockWorkers(BatonError):
    """Baton's runs are executed by `baton worker`, not by `rq worker`."""


def run(run_id: str) -> None:
    """Refuse: a run's state, lease and outcome are kept by Baton's own workers only.

    Raises:
        NotForStockWorkers: always, for a run's id.
        BatonError: the argument is none.
    """
    if not is_id(run_id):
        raise BatonError("worker.entry.run takes the id of a run, and nothing else")
    raise NotForStockWorkers(
        f"run {run_id} belongs to Baton: start `baton worker -m <your module>` on this queue instead of `rq worker`"
    )
