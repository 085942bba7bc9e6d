"""When the caller speaks and when not: Silero VAD over 32 ms windows. Its only clock is the sound itself."""

from __future__ import annotations

import enum
import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime

from gpu_workers import onnx_sessions
from gpu_workers.pcm import Samples

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 512
CONTEXT_SAMPLES = 64
SPEECH_ABOVE, SILENCE_BELOW = 0.5, 0.35
START_WINDOWS = 4
"""128 ms of speech are speech; shorter sounds are clicks and breaths."""
PAUSE_SAMPLES = SAMPLE_RATE_HZ // 5
"""0.2 s of silence are a pause: worth transcribing what was said so far."""

# Long non-speech shifts the model's state until it no longer hears speech that follows: it is reset in clear silence.
RESET_AFTER_WINDOWS = 2 * SAMPLE_RATE_HZ // WINDOW_SAMPLES
CLEAR_SILENCE_BELOW, CLEAR_SILENCE_WINDOWS = 0.1, 5


class Change(enum.Enum):
    STARTED = "started"
    PAUSED = "paused"


def load_model() -> onnxruntime.InferenceSession:
    """Open the model that comes with Pipecat. One serves all detectors: each keeps its own state."""
    package = importlib.util.find_spec("pipecat")  # importing it would take most of a second
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0])
    return onnx_sessions.open_session(folder / "audio" / "vad" / "data" / "silero_vad.onnx")


class SpeechDetector:
    """Feed it samples; it tells when speech starts and when it has paused."""

    def __init__(self, model: onnxruntime.InferenceSession) -> None:
        self._model = model
        self._left_over = np.zeros(0, np.float32)
        self._windows_since_reset = self._clear_windows = self._speech_windows = 0
        self.heard = 0
        """Samples looked at so far."""
        self.speech_ended = 0
        """Where the last window that was not silent ended, in samples."""
        self.speaking = False
        self._reset()

    def _reset(self) -> None:
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT_SAMPLES, np.float32)
        self._windows_since_reset = 0

    def feed(self, samples: Samples) -> list[Change]:
        """Look at more samples (16 kHz, 0.12 ms a window) and return what changed, in order."""
        samples = np.concatenate((self._left_over, samples))
        changes = []
        whole = len(samples) // WINDOW_SAMPLES * WINDOW_SAMPLES
        for at in range(0, whole, WINDOW_SAMPLES):
            if (change := self._look_at(samples[at : at + WINDOW_SAMPLES])) is not None:
                changes.append(change)
        self._left_over = samples[whole:]
        return changes

    def pause(self) -> bool:
        """Take the speech that goes on, if any, for paused; return whether there was any."""
        was_speaking, self.speaking, self._speech_windows = self.speaking, False, 0
        return was_speaking

    def _look_at(self, window: Samples) -> Change | None:
        probability, self._state = self._model.run(
            None,
            {
                "input": np.concatenate((self._context, window))[None],
                "state": self._state,
                "sr": np.array(SAMPLE_RATE_HZ, np.int64),
            },
        )
        probability = float(probability[0, 0])
        self._context = window[-CONTEXT_SAMPLES:]
        self.heard += WINDOW_SAMPLES
        self._reset_if_due(probability)

        if probability >= SILENCE_BELOW and (self.speaking or probability >= SPEECH_ABOVE):
            self._speech_windows += 1
            self.speech_ended = self.heard
            if not self.speaking and self._speech_windows >= START_WINDOWS:
                self.speaking = True
                return Change.STARTED
            return None
        self._speech_windows = 0
        if self.speaking and self.heard - self.speech_ended >= PAUSE_SAMPLES:
            self.speaking = False
            return Change.PAUSED
        return None

    def _reset_if_due(self, probability: float) -> None:
        self._windows_since_reset += 1
        self._clear_windows = self._clear_windows + 1 if probability < CLEAR_SILENCE_BELOW else 0
        if (
            not self.speaking
            and self._windows_since_reset >= RESET_AFTER_WINDOWS
            and self._clear_windows >= CLEAR_SILENCE_WINDOWS
        ):
            self._reset()
