"""Many voices in one batch: each is as if it were alone, and nothing of one comes to another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_workers.moshi import checkpoint as checkpoints
from gpu_workers.moshi import tiny as moshi_tiny
from gpu_workers.moshi.checkpoint import Checkpoint, CheckpointError
from gpu_workers.sizing import largest_batch
from gpu_workers.stt.tiny import write_checkpoint as write_stt
from gpu_workers.tts.batch import INITIAL_PADDING, Step, TtsBatch, Words, make_model
from gpu_workers.tts.tiny import EPOCH, SIGNATURE, VOICE_DIMENSION, VOICE_FRAMES, VOICES, write_checkpoint
from gpu_workers.tts.voices import BadVoice
from tests.gpu_workers.batch_workers import run_fresh
from tests.gpu_workers.tts.streams import batch_of, join, say, sound, words

TEXT = "We are open from nine to six."
FRAME = 1_920

IN_A_FRESH_PROCESS = """
import json, sys, torch
torch.set_num_threads(1)
from gpu_workers.moshi import checkpoint
from tests.gpu_workers.tts.streams import batch_of, say, sound, words
with batch_of(checkpoint.load(sys.argv[1]), 4) as batch:
    steps = say(batch, 2, sys.argv[2], seed=5)
print(json.dumps({"words": [repr(each) for each in words(steps)], "sound": sound(steps).tolist()}))
"""


def test_a_text_is_said_whole_word_after_word(checkpoint: Checkpoint) -> None:
    with batch_of(checkpoint, 2) as batch:
        steps = say(batch, 1, TEXT)
    said = words(steps)
    assert [word.text for word in said] == TEXT.split()
    assert said[0].start_seconds >= INITIAL_PADDING * 0.08
    for word, following in zip(said, said[1:], strict=False):
        assert word.start_seconds < word.stop_seconds == following.start_seconds
    assert said[-1].stop_seconds <= len(sound(steps)) / 24_000
    assert np.abs(sound(steps)).max() > 0.05
    assert [step.samples is None for step in steps] == sorted((step.samples is None for step in steps), reverse=True)


def test_a_used_place_beside_busy_ones_says_what_a_fresh_process_says(checkpoint: Checkpoint, tts_folder: Path) -> None:
    with batch_of(checkpoint, 4) as batch:
        say(batch, 2, "Something else altogether.", seed=9, voice="bright", beside=[0, 1, 3])
        again = say(batch, 2, TEXT, seed=5, beside=[0, 1, 3])
    fresh = run_fresh(IN_A_FRESH_PROCESS, str(tts_folder), TEXT)
    assert [repr(each) for each in words(again)] == fresh["words"] != []
    assert np.abs(sound(again) - np.array(fresh["sound"])).max() < 1e-5


def test_a_batch_of_three_gives_what_three_batches_of_one_give(checkpoint: Checkpoint) -> None:
    texts = ["Good morning.", "It costs forty dollars.", "Goodbye, and thank you for calling."]
    alone = []
    for place, text in enumerate(texts):
        with batch_of(checkpoint, 1) as batch:
            alone.append(say(batch, 0, text, seed=place, voice=VOICES[place % 2]))
    together: list[list[Step]] = [[] for _ in texts]
    with batch_of(checkpoint, 3) as batch:
        for place in range(3):
            join(batch, place, seed=place, voice=VOICES[place % 2])
        for at in range(1_000):
            # Each began four frames after the one before.
            work = {
                place: Words(batch.entries([text], is_first=True), True) if at == 4 * place else Words()
                for place, text in enumerate(texts)
                if at >= 4 * place and not (together[place] and together[place][-1].is_last)
            }
            if not work:
                break
            for place, step in batch.step(work).items():
                together[place].append(step)
    for one, other in zip(alone, together, strict=True):
        assert words(one) == words(other)
        assert np.abs(sound(one) - sound(other)).max() < 1e-5


def test_it_gives_what_moshis_own_generation_gives(checkpoint: Checkpoint) -> None:
    with batch_of(checkpoint, 2, temperature=0) as batch:
        steps = say(batch, 1, TEXT, voice="bright", beside=[0])
        embedding = checkpoints_voice(checkpoint, "bright")
        entries = batch.entries([TEXT], is_first=True)
        attributes = batch.voices.attributes(embedding)
    model = make_model(checkpoint, temperature=0)
    result = model.generate([entries], [attributes])
    assert result.all_transcripts[0] == [(word.text, round(word.start_seconds / 0.08)) for word in words(steps)]
    with torch.no_grad(), checkpoint.mimi.streaming(1):
        theirs = [checkpoint.mimi.decode(frame[:, 1:]) for frame in result.frames[model.delay_steps :]]
    expected = torch.cat(theirs, dim=-1)[0, 0].clamp(-1, 1).numpy()
    ours = sound(steps)
    length = min(len(ours), len(expected))
    assert length > 20 * FRAME
    assert np.abs(ours[:length] - expected[:length]).max() < 1e-4


def checkpoints_voice(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    from safetensors.torch import load_file

    return load_file(checkpoint.folder / "voices" / f"{name}.{SIGNATURE}@{EPOCH}.safetensors")["speaker_wavs"]


def test_seed_and_voice_make_a_difference(checkpoint: Checkpoint) -> None:
    with batch_of(checkpoint, 1) as batch:
        calm = sound(say(batch, 0, TEXT, seed=1))
        other_seed = sound(say(batch, 0, TEXT, seed=2))
        bright = sound(say(batch, 0, TEXT, seed=1, voice="bright"))
        unknown = sound(say(batch, 0, TEXT, seed=1, voice="nobody"))
    for other in (other_seed, bright):
        length = min(len(calm), len(other))
        assert np.abs(calm[:length] - other[:length]).max() > 1e-3
    assert np.array_equal(calm, unknown)


def test_words_may_come_late_and_make_no_difference(checkpoint: Checkpoint) -> None:
    with batch_of(checkpoint, 1) as batch:
        whole = say(batch, 0, TEXT)
        join(batch, 0)
        steps: list[Step] = []
        for at, text in enumerate(TEXT.split()):
            new = Words(batch.entries([text], is_first=at == 0))
            while not (step := batch.step({0: new})[0]).is_waiting:
                steps.append(step)
                new = Words()
        new = Words(are_last=True)
        while not (steps and steps[-1].is_last):
            steps.append(batch.step({0: new})[0])
            new = Words()
    assert words(steps) == words(whole)
    assert np.array_equal(sound(steps), sound(whole))


def test_a_break_is_silent_time_and_no_longer_than_ten_seconds(checkpoint: Checkpoint) -> None:
    with batch_of(checkpoint, 1) as batch:
        plain = words(say(batch, 0, "Please wait now."))
        paused = words(say(batch, 0, 'Please <break time="2s"/> wait now.'))
        assert [word.text for word in paused] == [word.text for word in plain]
        assert paused[1].start_seconds - plain[1].start_seconds > 1.5
        assert max(entry.padding for entry in batch.entries(['<break time="900s"/>'], is_first=True)) == 125


def test_an_embedding_that_does_not_fit_is_refused(checkpoint: Checkpoint) -> None:
    with batch_of(checkpoint, 1) as batch:
        batch.voices.source(torch.zeros(1, VOICE_DIMENSION, VOICE_FRAMES))
        for shape in ((VOICE_DIMENSION, VOICE_FRAMES), (1, VOICE_DIMENSION, 2), (1, 3, VOICE_FRAMES)):
            with pytest.raises(BadVoice, match="embedding of shape"):
                batch.voices.source(torch.zeros(shape))


def test_as_many_places_as_the_device_carries(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAME_BUDGET", "1000")
    batch = largest_batch(lambda places: TtsBatch(checkpoint, places=places), at_most=3)
    assert batch.places == 3
    batch.close()
    monkeypatch.setenv("FRAME_BUDGET", "0.0001")
    batch = largest_batch(lambda places: TtsBatch(checkpoint, places=places), at_most=3)
    assert batch.places == 1
    assert [word.text for word in words(say(batch, 0, TEXT))] == TEXT.split()
    batch.close()


def test_what_is_no_text_to_speech_is_refused(tmp_path: Path) -> None:
    for folder in (moshi_tiny.write_checkpoint(tmp_path / "moshi"), write_stt(tmp_path / "stt")):
        with pytest.raises(CheckpointError, match="no text-to-speech"):
            make_model(checkpoints.load(folder))
    for path in (folder := write_checkpoint(tmp_path / "mute") / "voices").iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match="holds no voices"):
        TtsBatch(checkpoints.load(folder.parent), places=1)
    folder = write_checkpoint(tmp_path / "two", tts_config={"multistream": True})
    with pytest.raises(CheckpointError, match="two at once"):
        make_model(checkpoints.load(folder))
    folder = write_checkpoint(tmp_path / "away", tts_config={"default_voice": "nobody"})
    with pytest.raises(CheckpointError, match="lacks the default voice nobody"):
        TtsBatch(checkpoints.load(folder), places=1)
