"""Many streams in one batch: each is as if it were alone, and nothing of one comes to another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from moshi.models import LMGen

from gpu_workers.moshi import checkpoint as checkpoints
from gpu_workers.moshi import tiny as moshi_tiny
from gpu_workers.moshi.checkpoint import Checkpoint, CheckpointError
from gpu_workers.sizing import largest_batch
from gpu_workers.stt.batch import Heard, SttBatch
from gpu_workers.stt.tiny import write_checkpoint
from gpu_workers.stt.words import EndWord, Spelling, Word
from tests.gpu_workers.batch_workers import run_fresh
from tests.gpu_workers.moshi.streams import sound
from tests.gpu_workers.stt.streams import batch_of, pauses, said, transcribe

FRAMES = 60

IN_A_FRESH_PROCESS = """
import json, sys, torch
torch.set_num_threads(1)
from gpu_workers.moshi import checkpoint
from tests.gpu_workers.moshi.streams import sound
from tests.gpu_workers.stt.streams import batch_of, pauses, said, transcribe
with batch_of(checkpoint.load(sys.argv[1]), 4) as batch:
    heard = transcribe(batch, 2, sound(5, 60))
print(json.dumps({"said": [repr(each) for each in said(heard)], "pauses": pauses(heard).tolist()}))
"""


def test_a_used_place_beside_busy_ones_hears_what_a_fresh_process_hears(
    checkpoint: Checkpoint, stt_folder: Path
) -> None:
    with batch_of(checkpoint, 4) as batch:
        transcribe(batch, 2, sound(1, 25), beside=[0, 1, 3])
        again = transcribe(batch, 2, sound(5, FRAMES), beside=[0, 1, 3])
    fresh = run_fresh(IN_A_FRESH_PROCESS, str(stt_folder))
    assert [repr(each) for each in said(again)] == fresh["said"] != []
    assert np.abs(pauses(again) - fresh["pauses"]).max() < 1e-5


def test_a_batch_of_four_gives_what_four_batches_of_one_give(checkpoint: Checkpoint) -> None:
    streams = [sound(seed, FRAMES) for seed in range(4)]
    alone = []
    for frames in streams:
        with batch_of(checkpoint, 1) as batch:
            alone.append(transcribe(batch, 0, frames))
    together: list[list[Heard]] = [[] for _ in streams]
    with batch_of(checkpoint, 4) as batch:
        for place in range(4):
            batch.join(place)
        for at in range(FRAMES + 9):
            # Each joined three frames after the one before.
            work = {place: streams[place][at - 3 * place] for place in range(4) if 0 <= at - 3 * place < FRAMES}
            for place, output in batch.step(work).items():
                assert isinstance(output, Heard)
                together[place].append(output)
    assert len({repr(said(heard)) for heard in alone}) == 4
    for one, other in zip(alone, together, strict=True):
        assert said(one) == said(other)
        assert np.abs(pauses(one) - pauses(other)).max() < 1e-5


def test_it_gives_what_moshis_own_stepping_gives(checkpoint: Checkpoint) -> None:
    frames = sound(6, FRAMES)
    with batch_of(checkpoint, 3) as batch:
        ours = transcribe(batch, 1, frames, beside=[0, 2])
        spelling = Spelling(batch.timing, checkpoint.tokenizer.decode)
    words: list[Word | EndWord] = []
    theirs = []
    mimi, generation = checkpoint.mimi, LMGen(checkpoint.lm, temp=0, temp_text=0)
    with torch.no_grad(), mimi.streaming(1), generation.streaming(1):
        for frame in frames:
            stepped = generation.step_with_extra_heads(mimi.encode(torch.from_numpy(frame)[None, None]))
            assert stepped is not None
            words += spelling.take(int(stepped[0][0, 0, 0]))
            theirs.append([float(head[0, 0, 0]) for head in stepped[1]])
    assert said(ours) == words != []
    assert np.abs(pauses(ours) - theirs).max() < 1e-5
    assert pauses(ours).shape == (FRAMES, 4)


def test_what_is_heard_makes_a_difference(checkpoint: Checkpoint) -> None:
    with batch_of(checkpoint, 1) as batch:
        one, other = transcribe(batch, 0, sound(1, FRAMES)), transcribe(batch, 0, sound(2, FRAMES))
    assert said(one) != said(other)
    assert np.abs(pauses(one) - pauses(other)).max() > 0.01


def test_a_place_that_is_not_stepped_stands_still(checkpoint: Checkpoint) -> None:
    frames = sound(8, FRAMES)
    with batch_of(checkpoint, 2) as batch:
        whole = transcribe(batch, 0, frames)
        batch.join(0)
        batch.join(1)
        paused = []
        for number, frame in enumerate(frames):
            if number == 20:
                for other in sound(9, 30):
                    assert 0 not in batch.step({1: other})
            output = batch.step({0: frame})[0]
            assert isinstance(output, Heard)
            paused.append(output)
    assert said(whole) == said(paused)
    assert np.abs(pauses(whole) - pauses(paused)).max() < 1e-5


def test_times_are_of_the_clients_sound(checkpoint: Checkpoint) -> None:
    with batch_of(checkpoint, 1) as batch:
        heard = transcribe(batch, 0, sound(5, FRAMES))
    assert [step.step for step in heard] == list(range(1, FRAMES + 1))
    at_seconds = 0.0
    for step in heard:
        for each in step.said:
            seconds = each.start_seconds if isinstance(each, Word) else each.stop_seconds
            assert at_seconds <= seconds <= step.step * 0.08 - 0.5 + 1e-9
            at_seconds = seconds


def test_a_checkpoint_that_wants_silence_first_gets_it_and_times_do_not_count_it(tmp_path: Path) -> None:
    loaded = checkpoints.load(write_checkpoint(tmp_path, stt_config={"audio_silence_prefix_seconds": 1.0}))
    frames = sound(5, FRAMES)
    silence = [np.zeros(1920, np.float32)] * 13
    with batch_of(loaded, 2) as batch:
        prefixed = transcribe(batch, 0, frames)
        assert (batch.timing.prefix_frames, batch.delay_frames) == (13, 7)
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json").read_text().replace('"audio_silence_prefix_seconds": 1.0', '"unknown": 1.0')
    )
    with batch_of(checkpoints.load(tmp_path), 2) as batch:
        by_hand = transcribe(batch, 0, [*silence, *frames])[13:]
    assert [step.step for step in prefixed] == list(range(1, FRAMES + 1))
    assert np.abs(pauses(prefixed) - pauses(by_hand)).max() < 1e-5
    ended = [each.stop_seconds for each in said(prefixed) if isinstance(each, EndWord)]
    ended_by_hand = [each.stop_seconds - 13 * 0.08 for each in said(by_hand) if isinstance(each, EndWord)]
    assert len(ended) > 1
    assert ended == pytest.approx(ended_by_hand[-len(ended) :])


def test_a_model_without_pause_predictions_is_served(tmp_path: Path) -> None:
    loaded = checkpoints.load(write_checkpoint(tmp_path, extra_heads_num_heads=0))
    with batch_of(loaded, 2) as batch:
        heard = transcribe(batch, 1, sound(5, FRAMES))
    assert {step.pauses for step in heard} == {()}
    assert said(heard)


def test_a_model_whose_codebooks_are_late_against_one_another_is_served(tmp_path: Path) -> None:
    loaded = checkpoints.load(write_checkpoint(tmp_path, delays=[0, 0, *[1] * 7]))
    with batch_of(loaded, 2) as batch:
        assert batch.delay_frames == 8
        heard = transcribe(batch, 1, sound(5, FRAMES))
    assert said(heard)


def test_the_batch_is_as_large_as_the_device_steps_in_time(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for budget, places in (("1000", 5), ("0.000001", 1)):
        monkeypatch.setenv("FRAME_BUDGET", budget)
        batch = largest_batch(lambda places: SttBatch(checkpoint, places=places), at_most=5)
        batch.close()
        assert batch.places == places


def test_a_checkpoint_of_another_kind_is_told_in_a_sentence(tmp_path: Path) -> None:
    moshi = moshi_tiny.write_checkpoint(tmp_path / "moshi")
    with pytest.raises(CheckpointError, match="holds no speech-to-text"):
        SttBatch(checkpoints.load(moshi), places=1)
    endless = write_checkpoint(tmp_path / "endless", stt_config={"audio_delay_seconds": 1e9})
    with pytest.raises(CheckpointError, match="stt_config in .* is not of its form"):
        SttBatch(checkpoints.load(endless), places=1)
