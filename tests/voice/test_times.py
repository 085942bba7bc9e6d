"""Times of messages, and what is made of them."""

from __future__ import annotations

import math
import random

import pytest

from voice import buckets
from voice.times import DurationHistogram, TimeRing, percentile, turn_times


def ring(*times: float) -> TimeRing:
    made = TimeRing(size=8)
    for at in times:
        made.append(at)
    return made


def test_a_ring_knows_its_last_times_and_forgets_the_others() -> None:
    times = ring(*range(10))
    assert [times.at(index) for index in (None, -1, 0, 1, 2, 9, 10)] == [None, None, None, None, 2.0, 9.0, None]


def test_a_turn_is_measured_between_the_messages_that_the_worker_names() -> None:
    document = {
        "index": 3,
        "speech_ended_message": 1,
        "reply_message": 0,
        "parts_ms": {"end_of_turn": 480.4, "stt": 109, "llm_ttft": 0.6, "tts_ttfb": 31},
    }
    turn = turn_times(document, caller=ring(10.0, 10.5), worker=ring(11.2), began=9.0)
    assert turn is not None
    assert (turn.index, turn.at_ms, turn.turn_ms) == (3, 2200, 700)
    assert turn.parts_ms == {"end_of_turn": 480, "stt": 109, "llm_ttft": 1, "tts_ttfb": 31}
    assert sum(turn.parts_ms.values()) + turn.other_ms == turn.turn_ms  # type: ignore[arg-type, operator]


def test_a_greeting_has_no_turn_time() -> None:
    document = {"index": 0, "speech_ended_message": None, "reply_message": 0, "parts_ms": {}}
    turn = turn_times(document, caller=ring(), worker=ring(9.5), began=9.0)
    assert turn is not None
    assert (turn.at_ms, turn.turn_ms, turn.other_ms) == (500, None, None)


@pytest.mark.parametrize(
    "changed",
    [
        {"index": -1},
        {"index": 10**9},
        {"index": "one"},
        {"index": None},
        {"reply_message": 5},
        {"reply_message": "x"},
        {"parts_ms": 3},
        {"speech_ended_message": "x"},
        {"index": float("nan")},
        {"index": float("inf")},
    ],
)
def test_a_turn_that_is_not_of_its_form_is_no_turn(changed: dict) -> None:
    document = {"index": 1, "speech_ended_message": 0, "reply_message": 0, "parts_ms": {}, **changed}
    assert turn_times(document, caller=ring(1.0), worker=ring(2.0), began=0.0) is None


@pytest.mark.parametrize("part", ["x", -5, float("nan"), float("inf"), 10**12, []])
def test_a_part_that_is_no_duration_is_left_out(part: object) -> None:
    document = {"index": 1, "speech_ended_message": 0, "reply_message": 0, "parts_ms": {"stt": part}}
    turn = turn_times(document, caller=ring(1.0), worker=ring(2.0), began=0.0)
    assert turn is not None
    assert (turn.parts_ms["stt"], turn.other_ms) == (None, 1000)


def test_a_reply_before_its_question_has_no_turn_time() -> None:
    document = {"index": 1, "speech_ended_message": 0, "reply_message": 0, "parts_ms": {"stt": 5}}
    turn = turn_times(document, caller=ring(3.0), worker=ring(2.0), began=0.0)
    assert turn is not None
    assert turn.turn_ms is None


def test_percentiles_of_durations_are_right_within_five_per_cent() -> None:
    chance = random.Random(7)
    values = [chance.lognormvariate(-1, 2) for _ in range(5_000)]
    histogram = DurationHistogram()
    for value in values:
        histogram.add(value)
    for share in (0.5, 0.95, 0.99):
        assert histogram.percentile(share) == pytest.approx(percentile(values, share), rel=0.06)
    assert DurationHistogram().percentile(0.5) is None


def test_percentiles_of_buckets_are_right_within_three_per_cent() -> None:
    chance = random.Random(8)
    values = [max(1.0, chance.lognormvariate(6.5, 0.5)) for _ in range(5_000)]
    counts = [0] * buckets.COUNT
    for value in values:
        counts[min(buckets.COUNT - 1, math.floor(math.log(value) / math.log(buckets.GROWTH)))] += 1
    for share in (0.5, 0.95):
        assert buckets.percentile(counts, share) == pytest.approx(percentile(values, share), rel=0.03)
    assert buckets.percentile([0] * buckets.COUNT, 0.5) is None


def test_a_percentile_lies_between_its_neighbours() -> None:
    assert percentile([], 0.5) is None
    assert percentile([4.0], 0.95) == 4.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
