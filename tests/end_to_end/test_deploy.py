"""What `deploy/` holds is what Baton takes: its command lines are run, its names are those of the code."""

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.census import flaky_lookup, parse, tabulate, walk
from shared import keys
from shared.settings import Settings
from tests.support.fleets import BIN, ROOT, command, environment
from tests.support.server import RedisServer
from tests.support.waiting import eventually

DEPLOY = ROOT / "deploy"
GRACE = Settings.load({}).stop_grace
ANALYZER = shutil.which("systemd-analyze")
UNITS = sorted(path.name for path in DEPLOY.glob("*.service"))


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DEPLOY / name).read_text())
    return parser


def containers() -> Iterator[tuple[str, Any]]:
    for name in ("k8s/fleet.yaml", "k8s/server.yaml"):
        for document in documents(name):
            if document["kind"] == "Deployment":
                yield name, document["spec"]["template"]["spec"]


def command_lines() -> dict[str, list[str]]:
    """The words behind `baton` of everything that is started."""
    services = documents("compose.yaml")[0]["services"]
    found = {f"compose {name}": told["command"] for name, told in services.items() if name != "redis"}
    found |= {name: spec["containers"][0]["args"] for name, spec in containers()}
    for name in UNITS:
        words = unit(name)["Service"]["ExecStart"].split()[1:]
        options = re.search(r"#   BATON_OPTIONS=(.*)", (DEPLOY / name).read_text())
        found[name] = shlex.split(" ".join(words).replace("$BATON_OPTIONS", options[1] if options else ""))
    return found


LINES = command_lines()


@pytest.mark.parametrize("name", [name for name, words in LINES.items() if words[0] == "worker"])
def test_a_fleet_is_started_with_options_that_it_takes(name: str, server: RedisServer) -> None:
    words = ["examples.census" if word == "shop.tasks" else word for word in LINES[name]]
    answer = command("baton", *words, "--check", url=server.url)
    assert (answer.returncode, "census" in answer.stdout) == (0, True)


def test_the_fleet_of_the_example_serves_the_queue_of_its_tasks() -> None:
    words = LINES["compose fleet"]
    served = {words[i + 1] for i, word in enumerate(words) if word == "-q"}
    assert served == {one.spec.queue for one in (walk, parse, flaky_lookup, tabulate)}


@pytest.mark.parametrize("name", [name for name, words in LINES.items() if words[0] == "server"])
def test_a_server_is_started_as_it_takes_it(name: str, server: RedisServer, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "baton", *LINES[name]], cwd=ROOT, env=environment(server.url), stdout=log, stderr=log
        )
    try:
        eventually(lambda: "schedules of Redis" in (tmp_path / "log").read_text())
        process.terminate()
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait(5)


def test_everything_is_started_by_one_of_the_two_commands() -> None:
    assert {words[0] for words in LINES.values()} == {"worker", "server"}


def test_whatever_stops_a_fleet_waits_longer_than_its_grace() -> None:
    compose = documents("compose.yaml")[0]["services"]["fleet"]["stop_grace_period"]
    waits = [float(compose.removesuffix("s")), float(unit("baton-worker@.service")["Service"]["TimeoutStopSec"])]
    waits += [spec["terminationGracePeriodSeconds"] for name, spec in containers() if "fleet" in name]
    assert (len(waits), min(waits) > GRACE) == (3, True)


def test_probes_ask_where_the_fleet_answers() -> None:
    ((_, spec),) = [(name, spec) for name, spec in containers() if "fleet" in name]
    (container,) = spec["containers"]
    port = container["args"][container["args"].index("--health-port") + 1].rpartition(":")[2]
    probes = [container[kind]["httpGet"] for kind in ("livenessProbe", "readinessProbe")]
    assert [(probe["path"], probe["port"]) for probe in probes] == [("/livez", "health"), ("/readyz", "health")]
    assert container["ports"] == [{"name": "health", "containerPort": int(port)}]


def test_nothing_runs_as_root_or_writes_to_its_own_files() -> None:
    for _, spec in containers():
        (container,) = spec["containers"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    services = documents("compose.yaml")[0]["services"]
    assert all(told["read_only"] for name, told in services.items() if name != "redis")
    assert [unit(name)["Service"]["NoNewPrivileges"] for name in UNITS] == ["yes", "yes"]


def test_the_scaler_counts_the_queue_that_the_fleet_serves() -> None:
    (scaler,) = documents("k8s/keda.yaml")
    fleet, budget = documents("k8s/fleet.yaml")
    queue = LINES["k8s/fleet.yaml"][LINES["k8s/fleet.yaml"].index("-q") + 1]
    assert scaler["spec"]["triggers"][0]["metadata"]["listName"] == keys.queue(queue)
    assert scaler["spec"]["scaleTargetRef"]["name"] == fleet["metadata"]["name"] == budget["metadata"]["name"]
    chosen = budget["spec"]["selector"]["matchLabels"].items()
    assert chosen <= fleet["spec"]["template"]["metadata"]["labels"].items()


def test_the_image_is_built_of_files_that_are_there_and_runs_as_nobody_special() -> None:
    lines = [line.split() for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line and line[0] != "#"]
    copied = [word for line in lines if line[0] == "COPY" and "--from=build" not in line for word in line[1:-1]]
    assert [word for word in copied if not (ROOT / word).exists()] == []
    assert [line[1] for line in lines if line[0] == "USER"] == ["10001"]
    assert ["ENTRYPOINT", '["baton"]'] in lines


@pytest.mark.skipif(ANALYZER is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_no_fault_with_a_unit(name: str, tmp_path: Path) -> None:
    # It looks for the program, which is not installed here.
    text = (DEPLOY / name).read_text().replace("/opt/baton/bin/baton", "/bin/true")
    file = tmp_path / name.replace("@", "@mail")
    file.write_text(text)
    answer = subprocess.run(
        [str(ANALYZER), "verify", "--man=no", file], capture_output=True, text=True, check=False, timeout=30
    )
    stem = name.partition("@")[0].removesuffix(".service")
    assert [line for line in answer.stderr.splitlines() if stem in line] == []
