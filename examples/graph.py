"""A graph: three numbers doubled each in a run of its own, and their sum. `baton worker -m graph`, then this."""

from orchestrator import task
from orchestrator.graphs import Graph


@task
def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


@task
def total(numbers: list[int]) -> int:
    """The sum."""
    return sum(numbers)


with Graph("doubled") as doubled:
    total(double.map(doubled.parameter("numbers", default=[1, 2, 3])))

if __name__ == "__main__":
    print(doubled.submit({"numbers": [1, 10, 100]}).wait())
