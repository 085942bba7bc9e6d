"""Which words of a voice were heard, where its words come beside its sound."""

from __future__ import annotations

from gpu_workers.cascade.passages import WEIGHT_A_SECOND, Passage

WORDS = "one two three four five six"


def made(seconds: float, words: str, *, is_whole: bool = True) -> Passage:
    passage = Passage()
    passage.add_words(words)
    passage.add_sound(seconds)
    if is_whole:
        passage.end()
    return passage


def test_words_of_a_whole_passage_are_heard_in_proportion_and_each_is_told_once() -> None:
    passage = made(3.0, WORDS)
    told = [passage.hear(seconds) for seconds in (0.0, 1.0, 1.5, 1.5, 3.0)]
    assert told[0] == told[3] == ""
    assert " ".join(filter(None, told)) == WORDS
    assert told[1] == "one two"


def test_a_whole_passage_is_told_to_its_last_word_whatever_its_pace() -> None:
    for seconds in (0.2, 30.0):
        assert made(seconds, WORDS).hear(seconds) == WORDS


def test_words_that_run_ahead_of_their_sound_are_not_taken_for_heard() -> None:
    passage = made(0.5, "a very long sentence of which hardly anything can have been spoken by now ", is_whole=False)
    heard = passage.hear(0.5)
    assert len(heard) <= 0.5 * WEIGHT_A_SECOND
    passage.add_sound(10.0)
    passage.end()
    assert passage.hear(10.5).endswith("by now")


def test_a_word_that_may_go_on_is_not_told_before_it_ends() -> None:
    passage = made(10.0, "We op", is_whole=False)
    assert passage.hear(10.0) == "We"
    passage.add_words("en.")
    passage.end()
    assert passage.hear(10.0) == "open."


def test_it_says_whether_something_was_cut_off() -> None:
    passage = made(2.0, WORDS)
    passage.hear(1.0)
    assert passage.was_cut_off and passage.heard_seconds == 1.0
    passage.hear(9.0)
    assert not passage.was_cut_off and passage.heard_seconds == 2.0
