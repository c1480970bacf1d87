"""What the job data of a run names, for programs of RQ that meet one."""

import pytest

from shared.errors import BatonError
from worker.entry import NotForStockWorkers, run


def test_a_run_is_refused_with_the_way_to_run_it() -> None:
    with pytest.raises(NotForStockWorkers, match="start `baton worker"):
        run("01a1f879-5eda-7005-8876-23ab1bc095ff")


@pytest.mark.parametrize("argument", ["os.system", "", "01A1F879-5EDA-7005-8876-23AB1BC095FF", "rm -rf"])
def test_anything_but_the_id_of_a_run_is_refused_too(argument: str) -> None:
    with pytest.raises(BatonError, match="the id of a run"):
        run(argument)
