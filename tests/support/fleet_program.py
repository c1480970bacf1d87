"""A worker program whose FleetOptions are given as JSON, for what `baton worker` has no option for."""

import argparse
import json
import sys

from orchestrator import Orchestrator
from orchestrator.cli import exit_code
from shared import logs
from shared.errors import BatonError
from shared.settings import Settings
from worker.loader import load_tasks
from worker.options import FleetOptions
from worker.process import run_fleet


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("options", type=json.loads)
    parser.add_argument("-m", dest="modules", action="append", required=True)
    parser.add_argument("-q", dest="queues", action="append")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--burst", action="store_true")
    given = parser.parse_args()
    logs.set_up()
    settings = Settings.load()
    try:
        options = FleetOptions(**given.options)
        tasks = load_tasks(given.modules)
        with Orchestrator(settings=settings):
            return run_fleet(
                settings, given.queues or ["default"], given.concurrency, tasks, burst=given.burst, options=options
            )
    except BatonError as error:
        sys.stderr.write(f"{error}\n")
        return exit_code(error)


if __name__ == "__main__":
    sys.exit(main())
