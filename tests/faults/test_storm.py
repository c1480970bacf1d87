"""A small storm: fleets are killed and halted while replies are lost, and nothing goes wrong with any run."""

from pathlib import Path

from tests.faults.storm import Storm, blown


def test_in_a_storm_no_run_is_lost_doubled_or_torn(tmp_path: Path) -> None:
    found, violations = blown(Storm(runs=300, strike_every=1.0, long_body=0.5), tmp_path)
    assert (found.wrong(), violations) == ({}, 0)
    assert found.again > 0  # else nothing was struck in its body, and this says nothing
