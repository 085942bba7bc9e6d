"""How long a silence ends a turn."""

from __future__ import annotations

import pytest

from gpu_workers.cascade.completeness import THINKING_SILENCE_SECONDS, TURN_SILENCE_SECONDS, silence_that_ends


@pytest.mark.parametrize(
    "words",
    [
        "What are your opening hours?",
        "Tuesday at 3:30.",
        "Tuesday at 15:30.",
        "At 4.",
        "For 2 people.",
        "My number is 415-555-2671.",
        "It's 4155552671",
        "Yes",
        "I would like to come on the 24th.",
    ],
)
def test_a_finished_sentence_ends_the_turn_after_a_short_silence(words: str) -> None:
    assert silence_that_ends(words) == TURN_SILENCE_SECONDS


@pytest.mark.parametrize(
    "words",
    ["I'd like to", "On Tuesday, um.", "My name is", "Because", "My number is 415", "It's 415-555.", "415 555 26,", ""],
)
def test_a_sentence_left_open_gets_more_time(words: str) -> None:
    assert silence_that_ends(words) == THINKING_SILENCE_SECONDS
