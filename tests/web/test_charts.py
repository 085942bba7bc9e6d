"""Charts, and the forms in which figures are shown."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from web.charts import Series, bar_chart, line_chart, nice_ceiling
from web.templatetags import warmline


@pytest.mark.parametrize(
    ("nano_dollars", "shown"),
    [
        (None, "–"),
        (0, "$0.00"),
        (4_210_000, "$0.004210"),
        (12_345_678, "$0.0123"),
        (42_000, "$0.000042"),
        (4_200, "$0.000004200"),
        (1_234_567_000_000, "$1,234.57"),
        (-12_300_000, "−$0.0123"),
        (1, "$0.000000001"),
    ],
)
def test_nano_dollars_are_shown_with_the_digits_that_tell_something(nano_dollars: int | None, shown: str) -> None:
    assert warmline.dollars(nano_dollars) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0 ms"),
        (0.42, "0.4 ms"),
        (-5, "−5 ms"),
        (412.4, "412 ms"),
        (1420, "1.42 s"),
        (185_000, "3 min 05 s"),
    ],
)
def test_milliseconds_are_shown_in_their_unit(value: float | None, shown: str) -> None:
    assert warmline.milliseconds(value) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(48, "48 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (None, "–")])
def test_durations_are_shown_in_their_unit(seconds: float | None, shown: str) -> None:
    assert warmline.duration(seconds) == shown


@pytest.mark.parametrize(("value", "shown"), [(14_900, "$149"), (12, "$0.12"), (149_950, "$1,499.50"), (None, "–")])
def test_cents_are_shown_as_dollars(value: int | None, shown: str) -> None:
    assert warmline.cents(value) == shown


@pytest.mark.parametrize(
    ("before", "shown"),
    [(3, "just now"), (40, "40 s ago"), (250, "4 min ago"), (7300, "2 h ago"), (86_000, "23 h ago"), (-3700, "in 1 h")],
)
def test_moments_are_shown_by_their_distance(before: int, shown: str) -> None:
    assert f">{shown}</time>" in warmline.ago(timezone.now() - timedelta(seconds=before, milliseconds=1))


def test_moments_beyond_a_day_are_shown_as_they_are() -> None:
    now = timezone.localtime()
    for moment in (now - timedelta(days=2), now + timedelta(days=2), now - timedelta(days=400)):
        year = "" if moment.year == now.year else f" {moment.year}"
        said = warmline.ago(moment)
        assert f">{moment.day} {moment:%b}{year}, {moment:%H:%M}</time>" in said
        assert "data-ago" not in said


@pytest.mark.parametrize("value", [0, 0.3, 1, 7, 12, 99.99, 100, 101, 1399, 86_400_000])
def test_a_scale_holds_its_highest_value_and_wastes_little(value: float) -> None:
    top = nice_ceiling(value)
    assert top >= value * 0.9999
    assert value == 0 or top <= value * 1.7


def test_a_line_is_lifted_where_nothing_was_measured() -> None:
    chart = line_chart(["Mon", "Tue", "Wed", "Thu"], [Series("p50", [100, None, 50, 80])], number=str)
    assert chart.traces[0].path == "M0.0,0.00 M666.7,50.00 L1000.0,20.00"
    assert chart.traces[0].dots == "M0.0,0.00h0"
    assert json.loads(chart.points)["values"] == [["100", "–", "50", "80"]]
    assert "p50: last 80, highest 100" in chart.summary


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        ({}, "–"),
        ({"min_containers": [0, 2]}, "min containers: 0 → 2"),
        ({"snapshots": [True, False], "note": ""}, "snapshots: on → off"),
        ({"scopes": ["calls:read", "calls:place"], "gpu": None}, "scopes: calls:read, calls:place"),
    ],
)
def test_details_of_the_audit_trail_read_as_a_line(document: dict[str, object], shown: str) -> None:
    assert warmline.details(document) == shown


def test_bars_stand_on_each_other() -> None:
    chart = bar_chart(["Mon", "Tue"], [Series("Ended", [3, 0]), Series("Failed", [1, 4], "bad")], number=str)
    ended, failed, tuesday = chart.bars
    assert failed.y + failed.height == pytest.approx(ended.y)
    assert ended.y + ended.height == pytest.approx(100)
    assert (tuesday.y, tuesday.height) == (0, 100)


def test_charts_stand_without_values() -> None:
    for chart in (
        line_chart([], [Series("p50", [])], number=str, filled=True),
        line_chart(["Mon"], [Series("p50", [None])], number=str),
        bar_chart([], [Series("Calls", [])], number=str),
    ):
        assert chart.is_empty
        assert chart.ticks
