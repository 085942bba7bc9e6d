"""Many conversations in one batch: each is as if it were alone, and nothing of one comes to another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from moshi.models import LMGen

from gpu_workers.moshi import checkpoint as checkpoints
from gpu_workers.moshi.batch import MoshiBatch, Opening, Spoken
from gpu_workers.moshi.checkpoint import Checkpoint, CheckpointError
from gpu_workers.moshi.generation import Forced
from gpu_workers.sizing import largest_batch
from tests.gpu_workers.batch_workers import run_fresh
from tests.gpu_workers.moshi.streams import FRAME_SAMPLES, batch_of, converse, difference, sound, words

FRAMES = 40

IN_A_FRESH_PROCESS = """
import json, sys, torch
torch.set_num_threads(1)
from gpu_workers.moshi import checkpoint
from tests.gpu_workers.moshi.streams import batch_of, converse, sound, words
with batch_of(checkpoint.load(sys.argv[1]), 4) as batch:
    said = converse(batch, 2, sound(5, 40), seed=77)
print(json.dumps({"words": words(said), "sound": [float(abs(each.samples).sum()) for each in said]}))
"""


def test_a_used_place_beside_busy_ones_says_what_a_fresh_process_says(
    checkpoint: Checkpoint, moshi_folder: Path
) -> None:
    with batch_of(checkpoint, 4) as batch:
        converse(batch, 2, sound(1, 25), seed=3, beside=[0, 1, 3])
        again = converse(batch, 2, sound(5, FRAMES), seed=77, beside=[0, 1, 3])
    fresh = run_fresh(IN_A_FRESH_PROCESS, str(moshi_folder))
    assert words(again) == fresh["words"] != ""
    assert [float(np.abs(each.samples).sum()) for each in again] == pytest.approx(fresh["sound"], rel=1e-6)


def test_a_batch_of_four_gives_what_four_batches_of_one_give(checkpoint: Checkpoint) -> None:
    callers = [sound(seed, FRAMES) for seed in range(4)]
    alone = []
    for seed, frames in enumerate(callers):
        with batch_of(checkpoint, 1) as batch:
            alone.append(converse(batch, 0, frames, seed=seed))
    with batch_of(checkpoint, 4) as batch:
        together: list[list[Spoken]] = [[] for _ in callers]
        for place in range(4):
            batch.join(place, Opening(seed=place))
        for at in range(FRAMES + 9):
            # Each joined three frames after the one before.
            work = {place: callers[place][at - 3 * place] for place in range(4) if 0 <= at - 3 * place < FRAMES}
            for place, output in batch.step(work).items():
                assert isinstance(output, Spoken)
                together[place].append(output)
    for one, other in zip(alone, together, strict=True):
        assert words(one) == words(other)
        assert difference(one, other) < 1e-5


def test_without_chance_it_gives_what_moshis_own_stepping_gives(checkpoint: Checkpoint) -> None:
    frames = sound(6, FRAMES)
    greedy = checkpoints.Checkpoint(
        checkpoint.mimi,
        checkpoint.lm,
        checkpoint.tokenizer,
        {"use_sampling": False},
        checkpoint.config,
        checkpoint.folder,
    )
    with batch_of(greedy, 3) as batch:
        ours = converse(batch, 1, frames, seed=1, beside=[0, 2])
    theirs = []
    mimi, generation = checkpoint.mimi, LMGen(checkpoint.lm, use_sampling=False)
    with torch.no_grad(), mimi.streaming(1), generation.streaming(1):
        for number, frame in enumerate(frames):
            codes = mimi.encode(torch.from_numpy(frame)[None, None])
            if number == 0:
                mimi.reset_streaming()
            if (tokens := generation.step(codes)) is not None:
                theirs.append(mimi.decode(tokens[:, 1:])[0, 0].numpy())
    assert len(ours) == len(theirs) > FRAMES - 4
    assert max(float(np.abs(a.samples - b).max()) for a, b in zip(ours, theirs, strict=True)) < 1e-5


def test_another_seed_says_something_else(checkpoint: Checkpoint) -> None:
    with batch_of(checkpoint, 2) as batch:
        assert words(converse(batch, 0, sound(5, FRAMES), seed=1)) != words(
            converse(batch, 0, sound(5, FRAMES), seed=2)
        )


def test_a_place_that_is_not_stepped_stands_still(checkpoint: Checkpoint) -> None:
    frames = sound(8, FRAMES)
    with batch_of(checkpoint, 2) as batch:
        whole = converse(batch, 0, frames, seed=4)
        batch.join(0, Opening(seed=4))
        batch.join(1, Opening(seed=5))
        paused = []
        for number, frame in enumerate(frames):
            if number == 20:
                for other in sound(9, 30):
                    assert 0 not in batch.step({1: other})
            output = batch.step({0: frame}).get(0)
            if isinstance(output, Spoken):
                paused.append(output)
    assert words(whole) == words(paused)
    assert difference(whole, paused) < 1e-5


def test_a_prompt_changes_what_is_said_and_is_the_same_in_every_place(checkpoint: Checkpoint) -> None:
    codes = torch.arange(8)
    prompt = tuple(Forced(text=10 + at, agent=codes, caller=(codes + at) % 32) for at in range(15))
    with batch_of(checkpoint, 3) as batch:
        unprompted = converse(batch, 0, sound(5, FRAMES), seed=9)
        prompted = converse(batch, 0, sound(5, FRAMES), seed=9, prompt=prompt)
        elsewhere = converse(batch, 2, sound(5, FRAMES), seed=9, prompt=prompt, beside=[0, 1])
    assert words(prompted) != words(unprompted)
    assert words(prompted) == words(elsewhere)
    assert difference(prompted, elsewhere) < 1e-5


def test_a_frame_is_eighty_milliseconds(checkpoint: Checkpoint) -> None:
    with batch_of(checkpoint, 1) as batch:
        assert (batch.frame_samples, batch.frame_seconds) == (FRAME_SAMPLES, 0.08)
        assert {len(each.samples) for each in converse(batch, 0, sound(1, 5), seed=0)} == {FRAME_SAMPLES}


def test_the_batch_is_as_large_as_the_device_steps_in_time(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAME_BUDGET", "1000")
    batch = largest_batch(lambda places: MoshiBatch(checkpoint, places=places), at_most=6)
    batch.close()
    assert batch.places == 6
    monkeypatch.setenv("FRAME_BUDGET", "0.000001")
    batch = largest_batch(lambda places: MoshiBatch(checkpoint, places=places), at_most=6)
    batch.close()
    assert batch.places == 1


@pytest.mark.parametrize(
    ("breaking", "sentence"),
    [
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "model.safetensors").unlink(), "lacks model.safetensors"),
        (
            lambda folder: (folder / "config.json").write_text(
                (folder / "config.json").read_text().replace('"dim": 32', '"dim": 64')
            ),
            "do not fit",
        ),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_told_in_a_sentence(
    breaking: object, sentence: str, moshi_folder: Path, tmp_path: Path
) -> None:
    for path in moshi_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    breaking(tmp_path)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=sentence):
        checkpoints.load(tmp_path)
