"""Moshi stepped for many conversations at once: sound of the callers in, sound and words of the agents out.

Built on what the package `moshi` gives for streams that come and go: `streaming_forever`, `set_exec_mask`,
`reset_streaming`. No threads, sockets or clocks here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch

from gpu_workers import sizing
from gpu_workers.batching import Prompted
from gpu_workers.moshi.checkpoint import Checkpoint
from gpu_workers.moshi.generation import Forced, SeededGeneration
from gpu_workers.pcm import Samples
from gpu_workers.streaming import Streaming

SILENT_TEXT = (0, 3)
"""Text tokens that say nothing: the end of a word's padding, and padding."""


@dataclasses.dataclass(frozen=True, slots=True)
class Spoken:
    """What a step gave: a frame of sound (24 kHz mono), and the piece of text that belongs to it, often none."""

    samples: Samples
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Opening:
    """How a conversation begins."""

    seed: int
    prompt: tuple[Forced, ...] = ()


@dataclasses.dataclass(slots=True)
class _Place:
    steps: int = 0
    is_fresh: bool = True
    prompt: tuple[Forced, ...] = ()

    @property
    def is_prompting(self) -> bool:
        return self.steps < len(self.prompt)


class MoshiBatch:
    """See gpu_workers.batching.Batch. A frame is 1,920 samples of 24 kHz mono."""

    def __init__(self, checkpoint: Checkpoint, *, places: int) -> None:
        self.places = places
        self.frame_seconds = 1 / checkpoint.mimi.frame_rate
        self.frame_samples = checkpoint.mimi.frame_size
        self._mimi = checkpoint.mimi
        self._tokenizer = checkpoint.tokenizer
        self._device = checkpoint.device
        self._generation = SeededGeneration(checkpoint.lm, places=places, **checkpoint.sampling)
        self._max_delay = self._generation.max_delay
        self._codebooks = checkpoint.mimi.num_codebooks
        self._places = [_Place() for _ in range(places)]
        self._streaming = Streaming(self._mimi, self._generation, places=places, device=self._device)

    def close(self) -> None:
        """Forget all states, so that the checkpoint can be used in another batch."""
        self._streaming.close()

    def fill(self) -> dict[int, Samples | None]:
        """Give every place to a conversation, and return frames that keep all of them busy."""
        for place in range(self.places):
            self.join(place, Opening(seed=place))
        return dict.fromkeys(range(self.places), sizing.noise(self.frame_samples))

    def join(self, place: int, opening: Opening) -> bool:
        """Give a place to a new conversation, with nothing left of the last one."""
        self._streaming.reset(place)
        self._generation.seed(place, opening.seed)
        self._places[place] = _Place(prompt=opening.prompt)
        return self._places[place].is_prompting

    @torch.inference_mode()
    def step(self, frames: dict[int, Samples | None]) -> dict[int, Spoken | type[Prompted]]:
        """Step the given places by one frame; a frame of None steps through the place's prompt."""
        codes = self._encode({place: frame for place, frame in frames.items() if frame is not None})
        self._force(codes, [place for place, frame in frames.items() if frame is None])
        self._generation.set_exec_mask(self._streaming.mask(frames))
        tokens = self._generation.step(codes)
        assert tokens is not None  # as always where streams are out of step with one another

        speaking, prompted = [], []
        for place, frame in frames.items():
            state = self._places[place]
            state.steps += 1
            if frame is None:
                if not state.is_prompting:
                    prompted.append(place)
            elif state.steps > self._max_delay:
                speaking.append(place)
        outputs: dict[int, Spoken | type[Prompted]] = {place: Prompted for place in prompted}
        outputs.update(self._decode(tokens, speaking))
        return outputs

    def _encode(self, frames: dict[int, Samples]) -> torch.Tensor:
        """Return Mimi's tokens of frames, of shape (places, codebooks, 1); rows of other places mean nothing."""
        if not frames:
            return torch.zeros(self.places, self._codebooks, 1, dtype=torch.long, device=self._device)
        sound = np.zeros((self.places, 1, self.frame_samples), np.float32)
        for place, samples in frames.items():
            sound[place, 0] = samples
        self._mimi.set_exec_mask(self._streaming.mask(frames))
        codes = self._mimi.encode(torch.from_numpy(sound).to(self._device))
        fresh = [place for place in frames if self._places[place].is_fresh]
        if fresh:
            # For the model the first frame lies in the past: the next one is to be encoded as the first again. (As
            # moshi's own server does.)
            self._mimi.reset_streaming(self._streaming.mask(fresh))
            for place in fresh:
                self._places[place].is_fresh = False
        return codes

    def _force(self, codes: torch.Tensor, prompting: list[int]) -> None:
        """Give the next frame of their prompts to places, as what the caller and the agent said."""
        self._generation.forced.clear()
        for place in prompting:
            state = self._places[place]
            codes[place, :, 0] = state.prompt[state.steps].caller
            self._generation.forced[place] = (state.prompt, state.steps)

    def _decode(self, tokens: torch.Tensor, speaking: list[int]) -> Iterator[tuple[int, Spoken]]:
        """Yield what places say. `tokens`: of shape (places, 1 + codebooks, 1), the first of each being text."""
        if not speaking:
            return
        self._mimi.set_exec_mask(self._streaming.mask(speaking))
        sound = self._mimi.decode(tokens[:, 1 : 1 + self._codebooks].clamp(min=0))
        samples, texts = sound[:, 0].float().cpu().numpy(), tokens[:, 0, 0].tolist()
        for place in speaking:
            yield place, Spoken(samples[place].copy(), self._piece(texts[place]))

    def _piece(self, token: int) -> str:
        return "" if token in SILENT_TEXT else self._tokenizer.id_to_piece(token).replace("▁", " ")
