"""Kyutai's speech-to-text stepped for many streams at once: sound in, words and pause predictions out.

Built on what the package `moshi` gives for streams that come and go: `streaming`, `set_exec_mask`, `reset_streaming`.
No threads, sockets or clocks here. See also: gpu_workers.moshi.batch.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from moshi.models import LMGen

from gpu_workers import sizing
from gpu_workers.batching import Prompted
from gpu_workers.moshi.checkpoint import Checkpoint, CheckpointError
from gpu_workers.pcm import Samples
from gpu_workers.streaming import Streaming
from gpu_workers.stt.words import PADDING, EndWord, Spelling, Timing, Word


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """What a step of one stream gave."""

    step: int
    """Which of the client's frames went in, from 1."""
    pauses: tuple[float, ...]
    """For each of the model's heads, how likely it is that the speaker pauses; empty where the model has none."""
    said: tuple[Word | EndWord, ...]


@dataclasses.dataclass(slots=True)
class _Place:
    spelling: Spelling
    prefix: int = 0
    """Frames of silence that are still to go in before the client's sound."""
    steps: int = 0
    """Frames that went in, the prefix among them."""
    frames: int = 0
    """Frames of the client that went in."""


class SttBatch:
    """See gpu_workers.batching.Batch. A frame is 1,920 samples of 24 kHz mono; the likeliest text is taken."""

    def __init__(self, checkpoint: Checkpoint, *, places: int) -> None:
        self.places = places
        self.frame_seconds = 1 / checkpoint.mimi.frame_rate
        self.frame_samples = checkpoint.mimi.frame_size
        self.timing = read_timing(checkpoint)
        self._mimi = checkpoint.mimi
        self._tokenizer = checkpoint.tokenizer
        self._device = checkpoint.device
        # A fuser of no conditions wants an empty dictionary, and no fuser takes one as well.
        self._generation = LMGen(checkpoint.lm, use_sampling=False, support_out_of_sync=True, condition_tensors={})
        self.delay_frames = self.timing.delay_frames + self._generation.max_delay
        self._places = [self._anew() for _ in range(places)]
        self._streaming = Streaming(self._mimi, self._generation, places=places, device=self._device)

    def close(self) -> None:
        """Forget all states, so that the checkpoint can be used in another batch."""
        self._streaming.close()

    def fill(self) -> dict[int, Samples | None]:
        """Give every place to a stream, and return frames that keep all of them busy."""
        for place in range(self.places):
            self.join(place)
        return dict.fromkeys(range(self.places), sizing.noise(self.frame_samples))

    def join(self, place: int, opening: None = None) -> bool:
        """Give a place to a new stream, with nothing left of the last one."""
        self._streaming.reset(place)
        self._places[place] = self._anew()
        return self._places[place].prefix > 0

    @torch.inference_mode()
    def step(self, frames: dict[int, Samples | None]) -> dict[int, Heard | type[Prompted]]:
        """Step the given places by one frame; a frame of None is one of the silence before a stream."""
        sound = np.zeros((self.places, 1, self.frame_samples), np.float32)
        for place, frame in frames.items():
            if frame is not None:
                sound[place, 0] = frame
        mask = self._streaming.mask(frames)
        self._mimi.set_exec_mask(mask)
        self._generation.set_exec_mask(mask)
        codes = self._mimi.encode(torch.from_numpy(sound).to(self._device))
        stepped = self._generation.step_with_extra_heads(codes)
        assert stepped is not None  # as always where streams are out of step with one another
        texts, pauses = self._to_lists(*stepped)

        outputs: dict[int, Heard | type[Prompted]] = {}
        for place, frame in frames.items():
            state = self._places[place]
            said = self._spell(state, texts[place])
            if frame is not None:
                state.frames += 1
                outputs[place] = Heard(state.frames, tuple(pauses[place]), tuple(said))
            else:
                state.prefix -= 1
                if state.prefix == 0:
                    outputs[place] = Prompted
        return outputs

    def _spell(self, state: _Place, token: int) -> list[Word | EndWord]:
        state.steps += 1
        if state.steps <= self._generation.max_delay:
            return []  # the model's codebooks are late against one another: there is no text yet
        return state.spelling.take(token)

    def _anew(self) -> _Place:
        return _Place(Spelling(self.timing, self._decode), self.timing.prefix_frames)

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode([token for token in tokens if token < self._tokenizer.vocab_size()])

    @staticmethod
    def _to_lists(tokens: torch.Tensor, heads: list[torch.Tensor]) -> tuple[list[int], list[list[float]]]:
        """Return, for each place, its text token and its heads' first class, in one copy from the device."""
        columns = [tokens[:, 0, 0].double(), *(head[:, 0, 0].double() for head in heads)]
        rows = torch.stack(columns, dim=1).cpu()
        return [int(token) for token in rows[:, 0].tolist()], rows[:, 1:].tolist()


def read_timing(checkpoint: Checkpoint) -> Timing:
    """Return how a checkpoint's text lies against its sound.

    Raises:
        CheckpointError: it is none of Kyutai's speech-to-text, or one that wants conditions.
    """
    lm = checkpoint.lm
    if lm.depformer is not None or "stt_config" not in checkpoint.config:
        raise CheckpointError(
            f"{checkpoint.folder} holds no speech-to-text: its config.json needs dep_q 0 and stt_config."
        )
    if lm.condition_provider is not None and lm.condition_provider.conditioners:
        raise CheckpointError(f"The speech-to-text in {checkpoint.folder} asks for conditions: this worker has none.")
    if lm.existing_text_padding_id != PADDING:
        raise CheckpointError(f"The speech-to-text in {checkpoint.folder} has another padding than token {PADDING}.")
    try:
        return Timing.of(checkpoint.config["stt_config"], frame_seconds=1 / checkpoint.mimi.frame_rate)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise CheckpointError(f"stt_config in {checkpoint.folder} is not of its form: {problem!r}") from problem
