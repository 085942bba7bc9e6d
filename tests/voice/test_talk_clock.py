"""How long both sides were there, what a gap is, and where a second worker's counting begins."""

from __future__ import annotations

from voice.talk_clock import TalkClock
from voice.times import Indexes, TimeRing, turn_times


def test_the_clock_runs_while_both_sides_are_there() -> None:
    clock = TalkClock(talked_ms=1_000)
    clock.start(10.0)
    assert clock.talked_ms(12.5) == 3_500
    clock.stop(13.0)
    clock.stop(14.0)  # it stands already
    assert clock.talked_ms(99.0) == 4_000
    clock.start(20.0)
    clock.start(25.0)  # it runs already
    assert clock.talked_ms(21.0) == 5_000


def test_a_loss_that_is_seen_late_is_not_billed() -> None:
    clock = TalkClock()
    clock.start(10.0)
    clock.stop(12.0)  # said at 30.0, for instance
    assert clock.talked_ms(30.0) == 2_000
    clock.start(40.0)
    clock.stop(39.0)  # before it began: nothing of it was heard
    assert clock.talked_ms(50.0) == 2_000


def test_a_gap_lasts_from_the_first_loss_to_the_first_word() -> None:
    clock = TalkClock(longest_gap_ms=100)
    clock.start(0.0)
    assert clock.end_gap(1.0) is None
    clock.begin_gap(2.0)
    clock.begin_gap(3.0)  # the worker after it was lost before it said a word
    assert clock.end_gap(4.5) == 2_500
    assert (clock.longest_gap_ms, clock.untold_gap_ms) == (2_500, 2_500)
    assert clock.end_gap(5.0) is None
    clock.note_gap(2_000)
    assert clock.longest_gap_ms == 2_500


def test_a_second_worker_names_messages_and_turns_by_its_own_counting() -> None:
    caller, worker = TimeRing(), TimeRing()
    for number in range(10):  # with the first worker
        caller.append(10.0 + number)
        worker.append(10.5 + number)
    indexes = Indexes(caller=caller.count - 1, worker=worker.count, turn=4)  # one message was replayed to the second
    caller.append(30.0)
    worker.append(30.4)
    document = {"index": 1, "speech_ended_message": 1, "reply_message": 0, "parts_ms": {"stt": 100}}
    turn = turn_times(document, caller=caller, worker=worker, began=10.0, indexes=indexes)
    assert turn is not None
    assert (turn.index, turn.turn_ms, turn.other_ms, turn.at_ms) == (5, 400, 300, 20_400)
    # What was replayed came at no time: a turn that ended in it has none.
    turn = turn_times(
        {**document, "speech_ended_message": -5}, caller=caller, worker=worker, began=10.0, indexes=indexes
    )
    assert turn is not None
