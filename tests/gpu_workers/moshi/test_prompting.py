"""Prompts for checkpoints that take them, and none for those that do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_workers.moshi import checkpoint as checkpoints
from gpu_workers.moshi.checkpoint import Checkpoint, CheckpointError
from gpu_workers.moshi.prompting import PADDING, Prompter
from gpu_workers.moshi.tiny import write_checkpoint
from tests.gpu_workers.moshi.streams import batch_of, converse, sound, words
from voice.wav_caller import write_wav

PAUSE_FRAMES = 6


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint that follows prompts, with one voice of a second."""
    folder = write_checkpoint(tmp_path_factory.mktemp("prompted"), model_type="personaplex")
    (folder / "voices").mkdir()
    write_wav(folder / "voices" / "ada.wav", np.sin(np.arange(24_000) / 20).astype(np.float32) / 4)
    return checkpoints.load(folder)


def prompter_of(checkpoint: Checkpoint) -> Prompter:
    prompter = Prompter.of(checkpoint)
    assert prompter is not None
    return prompter


def test_a_checkpoint_that_follows_no_prompt_has_no_prompter(checkpoint: Checkpoint) -> None:
    assert Prompter.of(checkpoint) is None


def test_a_prompt_is_voice_pause_text_pause(prompted: Checkpoint) -> None:
    prompter = prompter_of(prompted)
    text = prompted.tokenizer.encode("<system> You are a florist. <system>")
    prompt = prompter.prompt(text="You are\n a florist.", voice="ada")
    voice = prompter.voices["ada"]
    assert len(voice) == 13  # a second, in whole frames of 80 ms
    assert [frame.text for frame in prompt] == [PADDING] * (13 + PAUSE_FRAMES) + text + [PADDING] * PAUSE_FRAMES
    assert torch.equal(torch.stack([frame.agent for frame in prompt[:13]]), voice)
    assert all(torch.equal(frame.caller, prompter.tone) for frame in prompt)
    assert all(torch.equal(frame.agent, prompter.silence) for frame in prompt[13:])


def test_without_a_text_or_with_an_unknown_voice_the_rest_is_there(prompted: Checkpoint) -> None:
    prompter = prompter_of(prompted)
    assert [frame.text for frame in prompter.prompt(text="", voice="nobody")] == [PADDING] * 2 * PAUSE_FRAMES


def test_what_the_agent_says_follows_from_its_text_and_voice(prompted: Checkpoint) -> None:
    prompter = prompter_of(prompted)
    said = []
    with batch_of(prompted, 2) as batch:
        for flowers, voice in (("roses", "ada"), ("tulips", "ada"), ("roses", ""), ("roses", "ada")):
            prompt = prompter.prompt(text=f"Sell {flowers}.", voice=voice)
            said.append(words(converse(batch, 1, sound(2, 30), seed=11, prompt=prompt)))
    roses, tulips, voiceless, again = said
    assert roses == again
    assert len({roses, tulips, voiceless}) == 3


def test_a_voice_that_is_no_sound_is_told(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, model_type="personaplex")
    (folder / "voices").mkdir()
    (folder / "voices" / "broken.wav").write_bytes(b"RIFFnothing")
    with pytest.raises(CheckpointError, match=r"broken\.wav cannot be read"):
        Prompter.of(checkpoints.load(folder))
