"""The oracle sees every fault that is planted, in the run where it is, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path

from shared import keys
from tests.faults.bodies import quick
from tests.support.oracle import Findings
from tests.support.trial import Trial


def written_down(folder: Path, *entries: tuple[str, int, int, str, int]) -> None:
    """Lines that a body would have logged: run, attempt, token, what, when."""
    bodies = folder / "planted" / "bodies"
    bodies.mkdir(parents=True)
    (bodies / "1.log").write_text("".join(" ".join(map(str, entry)) + "\n" for entry in entries))


def test_every_planted_fault_is_found_where_it_is_and_nowhere_else(trial: Trial, tmp_path: Path) -> None:
    trial.fleet()
    done = [future.run_id for future in trial.submit_many([(quick, {})] * 10) if future.wait(10)]
    lost, reborn, zombie, gap, extra, overlapping, twice, unknown, *_ = done
    sound = trial.found()
    log = trial.fleets.body_log()

    trial.client.delete(keys.job(lost))
    row = json.loads(trial.client.lindex(keys.run_part(reborn, "history"), -1))
    trial.client.rpush(keys.run_part(reborn, "history"), json.dumps({**row, "seq": row["seq"] + 1, "type": "PENDING"}))
    trial.client.hincrby(keys.job(reborn), "seq", 1)
    trial.client.rpush(keys.run_part(twice, "history"), json.dumps({**row, "seq": row["seq"] + 1}))
    trial.client.hincrby(keys.job(twice), "seq", 1)
    trial.client.hincrby(keys.job(zombie), "token", 1)
    trial.client.hincrby(keys.job(gap), "seq", 1)
    trial.acknowledged.remove(unknown)
    stuck = trial.submit(quick, "nobody").run_id
    start = log[overlapping][0]
    written_down(
        tmp_path,
        (extra, 2, 2, "start", start.at),
        (overlapping, 2, 2, "start", start.at),
        (overlapping, 2, 2, "end", start.at + 1),
        ("executed", 1, 1, "start", start.at),
    )
    assert sound == Findings()
    assert replace(trial.found(), ghosts=sorted(trial.found().ghosts)) == Findings(
        lost=[lost],
        stuck=[stuck],
        ghosts=sorted([unknown, "executed"]),
        ended_twice=[reborn, twice],
        zombies=[zombie],
        gaps=[gap],
        extra=[extra, overlapping],
        overlaps=1,
        again=2,
    )
