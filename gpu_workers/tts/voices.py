"""Voices of a text-to-speech checkpoint: embeddings that every layer of the model attends to."""

from __future__ import annotations

from pathlib import Path

import torch
from moshi.conditioners import ConditionAttributes, TensorCondition
from moshi.models.tts import TTSModel
from safetensors import SafetensorError
from safetensors.torch import load_file

from gpu_workers.moshi.checkpoint import CheckpointError

GUIDANCE = 2.0
"""How closely the model keeps to voice and text, for models trained to take it as a condition. As moshi-server's."""


class BadVoice(ValueError):
    """An embedding does not fit the model. The sentence may be shown to who sent it."""


class Voices:
    """By name, what the layers of the model attend to; `default` is spoken with where a name is not known.

    Files are `voices/NAME.safetensors`, or as Kyutai publishes them `voices/NAME.SIGNATURE@EPOCH.safetensors`; folders
    in it are part of the name.

    Raises:
        CheckpointError: there is no voice, or one does not fit.
    """

    def __init__(self, model: TTSModel, folder: Path, *, default: str | None) -> None:
        self._model = model
        self._shape: torch.Size | None = None
        self._sources: dict[str, torch.Tensor] = {}
        for path in sorted(folder.rglob("*.safetensors")):
            name = str(path.relative_to(folder)).removesuffix(model.voice_suffix).removesuffix(".safetensors")
            try:
                self._sources[name] = self.source(load_file(path)["speaker_wavs"])
            except (BadVoice, KeyError, OSError, SafetensorError) as problem:
                raise CheckpointError(f"The voice {path} cannot be used: {problem}") from problem
        if not self._sources:
            raise CheckpointError(f"{folder} holds no voices: put NAME.safetensors there.")
        if default is not None and default not in self._sources:
            raise CheckpointError(f"{folder} lacks the default voice {default}.")
        self.default = self._sources[default if default is not None else next(iter(self._sources))]

    @property
    def names(self) -> list[str]:
        return list(self._sources)

    def named(self, name: str) -> torch.Tensor:
        """Return what to attend to for a voice: of shape (1, frames, dimension)."""
        return self._sources.get(name, self.default)

    @torch.inference_mode()
    def source(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return what to attend to for an embedding of shape (1, dimension, frames).

        Raises:
            BadVoice: it is not of the shape that this model takes.
        """
        if embedding.dim() != 3 or embedding.shape[0] != 1:
            raise BadVoice(f"An embedding of shape {list(embedding.shape)} is not of shape [1, dimension, frames].")
        if self._shape is not None and embedding.shape != self._shape:
            raise BadVoice(f"An embedding of shape {list(embedding.shape)} does not fit: {list(self._shape)} does.")
        lm = self._model.lm
        assert lm.condition_provider is not None and lm.fuser is not None
        try:
            conditions = lm.condition_provider.prepare_and_provide([self.attributes(embedding)])
            source = lm.fuser.get_cross(conditions)
        except RuntimeError as problem:
            raise BadVoice(f"An embedding of shape {list(embedding.shape)} does not fit the model.") from problem
        assert source is not None
        self._shape = embedding.shape
        return source.to(device=lm.device, dtype=lm.dtype)

    def attributes(self, embedding: torch.Tensor | None = None) -> ConditionAttributes:
        """Return moshi's form of a condition: one speaker, and silence for the others that a model may know."""
        if embedding is None:
            assert self._shape is not None
            embedding = torch.zeros(self._shape)
        _, dimension, frames = embedding.shape
        speakers = torch.zeros(1, self._model.max_speakers, frames, dimension)
        speakers[0, 0] = embedding[0].T
        is_there = torch.zeros(1, self._model.max_speakers, frames, dtype=torch.bool)
        is_there[0, 0] = True
        return ConditionAttributes(
            text={"control": "ok", "cfg": self._guidance()},
            tensor={"speaker_wavs": TensorCondition(speakers.view(1, -1, dimension), is_there.view(1, -1))},
        )

    def _guidance(self) -> str | None:
        values = self._model.valid_cfg_conditionings
        return format(GUIDANCE if GUIDANCE in values else max(values), ".1f") if values else None
