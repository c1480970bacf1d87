"""What the benchmarks make of their figures: ratios the right way round, void peers left out, a page rewritten."""

from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.__main__ import BEGIN, END, too_slow, write_into

MEASURED = {
    "baton": {"drain": [3000.0, 4000.0, 5000.0], "p50": [1.0, 2.0, 3.0]},
    "rq": {"drain": [200.0], "p50": [8.0]},
    "huey": {"drain": [2.0], "p50": [0.5]},
}


def test_a_ratio_says_how_many_times_better_baton_is() -> None:
    table = report.comparison(MEASURED, {})
    assert table.splitlines()[2:] == [
        "| drain of no-op runs, one process, /s | **4,000** | 20.00 x | 200 (20.0 x) | 2.00 (2000.0 x) |",
        "| round trip to an idle worker, p50, ms | **2.00** | 0.25 x | 8.00 (4.0 x) | 0.50 (0.2 x) |",
    ]


def test_a_peer_below_its_floor_is_void_and_compared_with_nothing() -> None:
    failed = too_slow(MEASURED)
    table = report.comparison(MEASURED, failed)
    assert (list(failed), table.splitlines()[0], table.splitlines()[-1]) == (
        ["huey"],
        "| median | Baton | beside the best | rq |",
        "huey is void: it drained 2 runs a second, and should at least 600.",
    )


def test_bars_are_as_long_as_their_share_of_the_longest() -> None:
    chart = report.chart({"baton": {"p50": [2.0]}, "rq": {"p50": [8.0]}}, {})
    assert [f'width="{length:.1f}"' in chart for length in (report.BARS / 4, report.BARS)] == [True, True]


def test_a_page_is_rewritten_between_its_marks(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_into(document, "new")
    assert document.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"


def test_a_page_without_marks_is_left_as_it_is(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("text")
    with pytest.raises(ValueError, match="no lines"):
        write_into(document, "new")
    assert document.read_text() == "text"
