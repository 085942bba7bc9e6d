"""Prompts, for checkpoints that take them: a voice to speak with and a text to follow, as frames before the call.

PersonaPlex is such a checkpoint. Its order of frames is that of NVIDIA's server (`LMGen.step_system_prompts` of
NVIDIA/personaplex, MIT): the voice, silence, the text, silence; the caller's side holds a 440 Hz tone all the while.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import sphn
import torch

from gpu_workers.moshi.checkpoint import Checkpoint, CheckpointError
from gpu_workers.moshi.generation import Forced

PROMPTED_TYPES = ("personaplex",)
"""Values of `model_type` in config.json whose checkpoints follow prompts."""
PADDING = 3
TONE_HZ, TONE_LEVEL = 440.0, 0.5
PAUSE_SECONDS = 0.5
SYSTEM = "<system>"
VOICE_LEVEL = 10 ** (-24 / 20)
"""Loudness that voices are brought to: -24 dB of full scale, by root mean square."""


@dataclasses.dataclass(slots=True)
class Prompter:
    """Makes prompts for a checkpoint. Mimi must not be streaming while a prompter is made or a voice is read."""

    checkpoint: Checkpoint
    silence: torch.Tensor
    tone: torch.Tensor
    voices: dict[str, torch.Tensor]
    """By name: Mimi's tokens of a recording, of shape (frames, codebooks)."""

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Prompter | None:
        """Return what makes prompts; None for checkpoints that follow none."""
        if checkpoint.config.get("model_type") not in PROMPTED_TYPES:
            return None
        frame = checkpoint.mimi.frame_size
        at = np.arange(frame * 4) / checkpoint.mimi.sample_rate
        tone = TONE_LEVEL * np.sin(2 * np.pi * TONE_HZ * at)
        return cls(
            checkpoint,
            silence=_encode(checkpoint, np.zeros(frame * 4))[-1],
            tone=_encode(checkpoint, tone)[-1],
            voices={
                path.stem: _read_voice(checkpoint, path) for path in sorted(checkpoint.folder.glob("voices/*.wav"))
            },
        )

    def prompt(self, *, text: str, voice: str = "") -> tuple[Forced, ...]:
        """Return the frames of a prompt. A voice that the checkpoint does not have is left out."""
        pause = [self._frame(PADDING, self.silence)] * round(PAUSE_SECONDS * self.checkpoint.mimi.frame_rate)
        spoken = [self._frame(PADDING, tokens) for tokens in self.voices.get(voice, ())]
        words = f"{SYSTEM} {' '.join(text.split())} {SYSTEM}" if text.strip() else ""
        written = [self._frame(token, self.silence) for token in self.checkpoint.tokenizer.encode(words)]
        return (*spoken, *pause, *written, *pause)

    def _frame(self, text: int, agent: torch.Tensor) -> Forced:
        return Forced(text=text, agent=agent, caller=self.tone)


def _read_voice(checkpoint: Checkpoint, path: Path) -> torch.Tensor:
    """Return a recording's tokens.

    Raises:
        CheckpointError: it is not sound.
    """
    try:
        samples, rate_hz = sphn.read(str(path))
    except Exception as problem:
        raise CheckpointError(f"The voice {path.name} cannot be read: {problem}") from problem
    samples = sphn.resample(samples[:1], src_sample_rate=rate_hz, dst_sample_rate=checkpoint.mimi.sample_rate)[0]
    level = float(np.sqrt(np.mean(np.square(samples)))) or 1.0
    return _encode(checkpoint, samples * VOICE_LEVEL / level)


@torch.inference_mode()
def _encode(checkpoint: Checkpoint, samples: np.ndarray) -> torch.Tensor:
    """Return Mimi's tokens of whole frames, of shape (frames, codebooks)."""
    frame = checkpoint.mimi.frame_size
    samples = np.pad(samples, (0, -len(samples) % frame)).astype(np.float32)
    return checkpoint.mimi.encode(torch.from_numpy(samples)[None, None].to(checkpoint.device))[0].T
