"""What a program and its children take of the machine, from /proc."""

from pathlib import Path


def family(pid: int) -> list[int]:
    """A process and all that descend from it, as far as they are there."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except FileNotFoundError:
        return []
    return [pid, *(member for child in children for member in family(child))]


def resident_mb(pid: int) -> float:
    """The resident memory of the largest process of the family: of one that works."""
    return max(_kilobytes(Path(f"/proc/{member}/status"), "VmRSS:") for member in family(pid)) / 1024


def proportional_mb(pid: int) -> float:
    """The memory of the whole family, pages that several share counted once."""
    return sum(_kilobytes(Path(f"/proc/{member}/smaps_rollup"), "Pss:") for member in family(pid)) / 1024


def _kilobytes(path: Path, field: str) -> int:
    return next((int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(field)), 0)
