"""`python -m tests.bench`: Baton and its peers in one run, on servers of their own. Measures, decides nothing."""

import json
import os
import platform
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tests.bench import report
from tests.bench.contest import BATON, MEASURES, PEERS, Peer, environment_of, hold, version_of
from tests.bench.workloads import WORKLOADS, Workload
from tests.support.server import RedisServer

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
Contest = dict[str, dict[str, list[float]]]
Alone = list[tuple[str, str, str, list[float]]]


def contest(peers: Sequence[Peer], venvs: Path, wanted: Sequence[str], times: int) -> tuple[Contest, dict[str, str]]:
    """All figures of Baton and these peers, and of peers that are void why they are."""
    measured: Contest = {peer.name: defaultdict(list) for peer in peers}
    failed: dict[str, str] = {}
    for name, figures in hold(peers, venvs, wanted, times):
        if isinstance(figures, Exception):
            failed[name] = str(figures)
            continue
        click.echo(f"{name}: {', '.join(f'{key} {value:,.2f}' for key, value in figures.items())}", err=True)
        for key, value in figures.items():
            measured[name][key].append(value)
    return measured, too_slow(measured) | failed


def too_slow(measured: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, str]:
    """Peers that drained so few runs that their set-up has to be wrong, and what is told of them."""
    drained = {name: statistics.median(measured[name]["drain"]) for name in measured if "drain" in measured[name]}
    return {
        name: f"it drained {rate:,.0f} runs a second, and should at least {PEERS[name].floor:,}."
        for name, rate in drained.items()
        if name in PEERS and rate < PEERS[name].floor
    }


def alone(workloads: Sequence[Workload], times: int) -> Alone:
    """The rows of what is measured of Baton alone."""
    rows = []
    for workload in workloads:
        values = []
        for _ in range(workload.times or times):
            with tempfile.TemporaryDirectory() as folder:
                server = RedisServer(Path(folder))
                try:
                    values.append(workload.measure(server, workload.size))
                finally:
                    server.stop()
        click.echo(f"{workload.title}: {report.number(values)} {workload.unit}", err=True)
        rows.append((workload.title, workload.unit, workload.goal, values))
    return rows


def about(peers: Sequence[Peer], venvs: Path) -> dict[str, Any]:
    """When and where, and which releases."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        with server.client() as client:
            redis_version = client.info("server")["redis_version"]
        server.stop()
    return {
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load": round(max(os.getloadavg()), 1),
        "python": platform.python_version(),
        "redis": redis_version,
        "peers": {peer.name: version_of(peer, environment_of(peer, venvs)) for peer in peers},
    }


def page(facts: Mapping[str, Any], measured: Contest, void: Mapping[str, str], rows: Alone, times: int) -> str:
    """The part of `docs/performance.md` that is measured."""
    releases = ", ".join(f"{name} {version}" for name, version in facts["peers"].items())
    made = f"Made on {facts['made']} with Python {facts['python']} and Redis {facts['redis']}; {times} times each."
    parts = [f"{made} Redis, producer and workers share {facts['cores']} cores. Peers: {releases or 'none'}."]
    if facts["load"] > facts["cores"] + 1:
        busy = (
            f"The machine was busy with other work too (load {facts['load']}), so these figures are worse than they are"
        )
        parts.append(f"{busy} on a calm one, the more so the more processes take part.")
    if measured:
        parts += [report.comparison(measured, void), report.spread(measured)]
    if rows:
        parts.append(report.alone(rows))
    return "\n\n".join(parts)


def write_into(document: Path, text: str) -> None:
    """Put a text between the two marks of a document.

    Raises:
        ValueError: it has no such marks.
    """
    before, begin, rest = document.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document} has no lines {BEGIN} and {END}")
    document.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def chosen(words: str, known: Sequence[str], option: str) -> list[str]:
    """The words of a comma-separated option.

    Raises:
        click.BadParameter: one of them is not known.
    """
    wanted = [word for word in words.split(",") if word]
    if unknown := sorted(set(wanted) - set(known)):
        raise click.BadParameter(f"no {', '.join(unknown)}; there are {', '.join(known)}", param_hint=option)
    return wanted


NAMES = [*MEASURES, *dict.fromkeys(workload.name for workload in WORKLOADS)]
FOLDER = Path(tempfile.gettempdir()) / "baton-bench-peers"


@click.command()
@click.option("--peers", default="rq", show_default=True, help=f"Of {','.join(PEERS)}; empty for none.")
@click.option("--only", default="", help=f"What to measure, of {','.join(NAMES)}; all by default.")
@click.option("--times", default=3, show_default=True, help="Measurements per figure.")
@click.option("--venvs", default=FOLDER, show_default=True, type=Path, help="Where peers' environments are kept.")
@click.option("--json", "json_file", type=Path, help="Write all figures to this file.")
@click.option(
    "--kept",
    "kept_file",
    type=Path,
    help="A file of --json, for the half (beside peers, or alone) that is not measured now.",
)
@click.option("--svg", "svg_file", type=Path, help="Draw the medians into this file.")
@click.option("--page", "page_file", type=Path, help="Write the tables between the marks of this document.")
def main(
    peers: str,
    only: str,
    times: int,
    venvs: Path,
    json_file: Path | None,
    kept_file: Path | None,
    svg_file: Path | None,
    page_file: Path | None,
) -> None:
    """Measure Baton beside its peers, one process each unless said otherwise, and print tables in Markdown."""
    names = chosen(only, NAMES, "--only") or NAMES
    others = [PEERS[name] for name in chosen(peers, list(PEERS), "--peers")]
    systems = [BATON, *others]
    kept = json.loads(kept_file.read_text()) if kept_file else {"contest": {}, "void": {}, "alone": []}
    measured, void, rows = kept["contest"], kept["void"], kept["alone"]
    if wanted := [name for name in names if name in MEASURES]:
        measured, void = contest(systems, venvs, wanted, times)
    if workloads := [workload for workload in WORKLOADS if workload.name in names]:
        rows = alone(workloads, times)
    facts = about(others, venvs)
    text = page(facts, measured, void, rows, times)
    click.echo(text)
    if json_file:
        json_file.write_text(json.dumps({**facts, "contest": measured, "void": void, "alone": rows}, indent=1) + "\n")
    if svg_file and measured:
        svg_file.write_text(report.chart(measured, void))
    if page_file:
        write_into(page_file, text)


if __name__ == "__main__":
    main()
