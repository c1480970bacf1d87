"""A flow: pages are extracted in runs of their own and added up. Brings Redis and workers along: `python etl.py`."""

from orchestrator import Orchestrator, flow, task


@task(retries=2)
def extract(page: int) -> list[int]:
    """The rows of a page."""
    return list(range(page))


@task
def total(pages: list[list[int]]) -> int:
    """The sum of all rows."""
    return sum(map(sum, pages))


@flow(flow_run_name="etl of {pages} pages")
def etl(pages: int = 10) -> int:
    """Extract each page in a run of its own, and add them up in another one."""
    return total.submit(extract.map(range(pages))).result()


if __name__ == "__main__":
    with Orchestrator("embedded:"):
        print(etl(20), etl.submit(pages=30).result())
