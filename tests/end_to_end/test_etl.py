"""The example of a flow runs as it is."""

import sys

from tests.support.fleets import ROOT, command
from tests.support.server import RedisServer


def test_the_example_adds_up_what_its_runs_extract(server: RedisServer) -> None:
    told = command(sys.executable, "etl.py", url=server.url, cwd=ROOT / "examples", seconds=60)
    sums = (sum(sum(range(page)) for page in range(pages)) for pages in (20, 30))
    assert (told.returncode, told.stdout.split()) == (0, [str(total) for total in sums]), told.stderr
