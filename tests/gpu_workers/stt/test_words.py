"""Words and their times, from text tokens."""

from __future__ import annotations

from gpu_workers.stt.words import EndWord, Spelling, Timing, Word

TIMING = Timing.of({"audio_delay_seconds": 0.5}, frame_seconds=0.08)


def spell(tokens: list[int], timing: Timing = TIMING) -> list[tuple[int, Word | EndWord]]:
    """Return what is said after which frame."""
    spelling = Spelling(timing, lambda tokens: " ".join(str(token) for token in tokens))
    return [(frame, each) for frame, token in enumerate(tokens, 1) for each in spelling.take(token)]


def test_a_word_lies_between_two_ends_of_padding() -> None:
    tokens = [3] * 9 + [0, 41, 42, 3, 3, 0, 3]
    assert spell(tokens) == [(13, Word("41 42", 0.3)), (15, EndWord(0.7))]


def test_a_word_right_after_another_ends_it_first() -> None:
    tokens = [3] * 9 + [0, 41, 0, 42, 0]
    assert spell(tokens) == [(12, Word("41", 0.3)), (12, EndWord(0.46)), (14, Word("42", 0.46)), (14, EndWord(0.62))]


def test_padding_alone_ends_a_word_but_not_its_time() -> None:
    tokens = [3] * 9 + [0, 41, 3, 42, 3, 3, 0]
    assert spell(tokens) == [(12, Word("41", 0.3)), (14, Word("42", 0.3)), (16, EndWord(0.78))]


def test_text_before_the_delay_has_passed_is_of_no_sound() -> None:
    assert spell([0, 41, 42, 3, 0]) == []
    assert spell([3] * 5 + [41, 3]) == [(7, Word("41", 0.0))]


def test_silence_before_the_sound_does_not_count() -> None:
    timing = Timing.of({"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 1.0}, frame_seconds=0.08)
    assert spell([41, *[3] * 21, 0, 41, 3], timing) == [(25, Word("41", 0.3))]


def test_the_delays_of_kyutais_models_in_frames() -> None:
    assert (TIMING.delay_frames, TIMING.silent_frames) == (7, 6)
    large = Timing.of({"audio_delay_seconds": 2.5, "audio_silence_prefix_seconds": 1.0}, frame_seconds=0.08)
    assert (large.prefix_frames, large.delay_frames) == (13, 32)
