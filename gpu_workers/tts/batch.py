"""Kyutai's text-to-speech stepped for many streams at once: words in, sound out.

Built on what the package `moshi` gives for streams that come and go, and on its text-to-speech machine. No threads,
sockets or clocks here. See also: gpu_workers.moshi.batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from moshi.models.tts import Entry, StateMachine, TokenIds, TTSModel, script_to_entries
from moshi.modules.transformer import StreamingMultiheadAttention

from gpu_workers.moshi.checkpoint import Checkpoint, CheckpointError
from gpu_workers.pcm import Samples
from gpu_workers.streaming import Streaming
from gpu_workers.tts.generation import Script, ScriptedGeneration
from gpu_workers.tts.voices import Voices

CODEBOOKS = 24
"""How many of the codec's codebooks are spoken with, at most: fewer are faster, and sound worse. As moshi-server's."""
TEMPERATURE = 0.6
INITIAL_PADDING, MAX_PADDING, FINAL_PADDING, PADDING_BETWEEN = 2, 8, 4, 1
"""Frames before the first word, at most between two, after the last, and at least between two. As moshi-server's."""
LONGEST_BREAK_SECONDS = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Opening:
    """How a stream begins: `voice` is what the layers attend to, of shape (1, frames, dimension)."""

    seed: int
    voice: torch.Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Words:
    """One step of a stream, and what came in before it."""

    entries: tuple[Entry, ...] = ()
    are_last: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word, and when it is said. Seconds count from the first sample of the stream."""

    text: str
    start_seconds: float
    stop_seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """What a step of one stream gave."""

    samples: Samples | None = None
    """A frame of 24 kHz mono; None where the sound has not begun."""
    words: tuple[SpokenWord, ...] = ()
    is_waiting: bool = False
    """Nothing was stepped: it needs more words, or to know that there are none."""
    is_last: bool = False


@dataclasses.dataclass(slots=True)
class _Place:
    script: Script
    told_words: int = 0


class TtsBatch:
    """See gpu_workers.batching.Batch; a frame that is put in is `Words`, and one frame of sound follows from it."""

    def __init__(self, checkpoint: Checkpoint, *, places: int, temperature: float = TEMPERATURE) -> None:
        self.places = places
        self.frame_seconds = 1 / checkpoint.mimi.frame_rate
        self._mimi = checkpoint.mimi
        self._lm = checkpoint.lm
        self._tokenizer = checkpoint.tokenizer
        model = make_model(checkpoint, temperature=temperature)
        self._machine = model.machine
        default_voice = checkpoint.config["tts_config"].get("default_voice")
        self.voices = Voices(model, checkpoint.folder / "voices", default=default_voice)
        self._lookahead = model.machine.second_stream_ahead
        self._attentions = [
            module
            for module in self._lm.modules()
            if isinstance(module, StreamingMultiheadAttention) and module.cross_attention
        ]
        self._generation = self._make_generation(model)
        self._places = [_Place(self._generation.new_script()) for _ in range(places)]
        self._streaming = Streaming(self._mimi, self._generation, places=places, device=self._lm.device)
        with torch.inference_mode():
            self._lend_voices()

    def close(self) -> None:
        """Forget all states, so that the checkpoint can be used in another batch."""
        self._streaming.close()

    def fill(self) -> dict[int, Words]:
        """Give every place to a stream, and return work that keeps all of them busy."""
        words = self.entries(["one two three four five six"], is_first=True) * 8
        for place in range(self.places):
            self.join(place, Opening(seed=place, voice=self.voices.default))
            self._places[place].script.state.entries.extend(words)
            self._places[place].script.steps = 1_000_000  # past the silence before the sound, which costs less
        return dict.fromkeys(range(self.places), Words())

    def entries(self, texts: Iterable[str], *, is_first: bool) -> tuple[Entry, ...]:
        """Return the words of a text as the machine takes them; `<break time="0.5s"/>` is a pause.

        Args:
            is_first: nothing has been said before.
        """
        entries = script_to_entries(
            self._tokenizer,
            self._machine.token_ids,
            1 / self.frame_seconds,
            list(texts),
            multi_speaker=is_first,
            padding_between=PADDING_BETWEEN,
        )
        longest = round(LONGEST_BREAK_SECONDS / self.frame_seconds)
        for entry in entries:
            entry.padding = min(entry.padding, longest)
        return tuple(entries)

    def join(self, place: int, opening: Opening) -> bool:
        """Give a place to a new stream, with nothing left of the last one."""
        self._streaming.reset(place)
        with torch.inference_mode():
            self._give_voice(place, opening.voice)
        self._generation.seed(place, opening.seed)
        self._places[place] = _Place(self._generation.new_script())
        return False

    @torch.inference_mode()
    def step(self, frames: dict[int, Words]) -> dict[int, Step]:
        """Step the given places by one frame; those that lack words stand still."""
        stepping: dict[int, Script] = {}
        for place, words in frames.items():
            script = self._places[place].script
            script.state.entries.extend(words.entries)
            script.is_complete |= words.are_last
            if script.may_step(self._lookahead):
                stepping[place] = script
        steps = {place: Step(is_waiting=True) for place in frames if place not in stepping}
        if stepping:
            steps.update(self._step(stepping))
        return steps

    def _step(self, scripts: dict[int, Script]) -> dict[int, Step]:
        self._generation.set_exec_mask(self._streaming.mask(scripts))
        tokens = self._generation.step_scripts(scripts)
        heard = [place for place, script in scripts.items() if self._generation.is_heard(script)]
        sound: np.ndarray | None = None
        if heard:
            self._mimi.set_exec_mask(self._streaming.mask(heard))
            decoded = self._mimi.decode(tokens[:, 1 : 1 + self._lm.dep_q].clamp(min=0))
            sound = decoded[:, 0].clamp(-1, 1).float().cpu().numpy()
        steps = {}
        for place, script in scripts.items():
            is_last = self._generation.is_at_end(script, padding=FINAL_PADDING)
            steps[place] = Step(
                samples=sound[place].copy() if sound is not None and place in heard else None,
                words=tuple(self._said(self._places[place], is_last=is_last)),
                is_last=is_last,
            )
        return steps

    def _said(self, place: _Place, *, is_last: bool) -> list[SpokenWord]:
        """Return the words whose end has become known: a word ends where the next one begins."""
        state = place.script.state
        begun = state.transcript
        known = len(begun) - (0 if is_last else 1)
        words = []
        for index in range(place.told_words, known):
            text, start = begun[index]
            stop = begun[index + 1][1] if index + 1 < len(begun) else max(start, state.end_step or start)
            words.append(SpokenWord(text, start * self.frame_seconds, stop * self.frame_seconds))
        place.told_words = max(place.told_words, known)
        return words

    @torch.inference_mode()
    def _make_generation(self, model: TTSModel) -> ScriptedGeneration:
        assert self._lm.condition_provider is not None
        provided = self._lm.condition_provider.prepare_and_provide([self.voices.attributes()] * self.places)
        return ScriptedGeneration(
            self._lm,
            model.machine,
            places=self.places,
            delay_steps=model.delay_steps,
            temp=model.temp,
            temp_text=model.temp,
            condition_tensors=provided,
        )

    def _lend_voices(self) -> None:
        """Make room for what each place attends to, where CUDA graphs will read it."""
        source = self.voices.default.expand(self.places, -1, -1)
        for attention in self._attentions:
            state = attention._streaming_state
            assert state is not None
            state.k_cross, state.v_cross = (each.clone() for each in attention._compute_cross_attention(source, source))

    def _give_voice(self, place: int, voice: torch.Tensor) -> None:
        for attention in self._attentions:
            state = attention._streaming_state
            assert state is not None and state.k_cross is not None and state.v_cross is not None
            keys, values = attention._compute_cross_attention(voice, voice)
            state.k_cross[place], state.v_cross[place] = keys[0], values[0]


def make_model(checkpoint: Checkpoint, *, temperature: float = TEMPERATURE) -> TTSModel:
    """Return moshi's text-to-speech on a checkpoint's models.

    Raises:
        CheckpointError: it is none of Kyutai's text-to-speech, or one whose voices are recordings and not embeddings.
    """
    lm, mimi = checkpoint.lm, checkpoint.mimi
    config: dict[str, Any] | None = checkpoint.config.get("tts_config")
    if not isinstance(config, dict) or not isinstance(config.get("audio_delay"), (int, float)) or lm.depformer is None:
        raise CheckpointError(f"{checkpoint.folder} holds no text-to-speech: its config.json needs tts_config.")
    if config.get("multistream"):
        raise CheckpointError(f"The text-to-speech in {checkpoint.folder} speaks for two at once: it is not served.")
    signature = checkpoint.config.get("model_id") or {}
    model = TTSModel(
        lm=lm,
        mimi=mimi,
        tokenizer=checkpoint.tokenizer,
        voice_suffix=f".{signature.get('sig')}@{signature.get('epoch')}.safetensors",
        voice_repo="",
        machine=StateMachine(
            token_ids=TokenIds(lm.text_card + 1),
            second_stream_ahead=int(config.get("second_stream_ahead", 0)),
            max_padding=MAX_PADDING,
            initial_padding=INITIAL_PADDING,
        ),
        delay_steps=int(config["audio_delay"] * mimi.frame_rate),
        temp=temperature,
        n_q=min(CODEBOOKS, lm.n_q),
    )
    if not model.multi_speaker:
        raise CheckpointError(
            f"The text-to-speech in {checkpoint.folder} takes its voice from a recording: it is not served."
        )
    lm.dep_q = model.n_q
    mimi.set_num_codebooks(model.n_q)
    return model
