"""The frames that this pipeline adds to Pipecat's."""

from __future__ import annotations

import dataclasses

from pipecat.frames.frames import (
    DataFrame,
    InputAudioRawFrame,
    LLMFullResponseStartFrame,
    SystemFrame,
    VADUserStoppedSpeakingFrame,
)

from gpu_workers.cascade.brain import Voiced
from gpu_workers.cascade.conversation import CallerTurn, Reply


@dataclasses.dataclass
class CallerAudioFrame(InputAudioRawFrame):
    """What one message of the caller carried."""

    message: int = 0
    arrived_at: float = 0.0


@dataclasses.dataclass
class SpeechPausedFrame(VADUserStoppedSpeakingFrame):
    """The caller has been silent for a moment: perhaps the turn is over."""

    message: int | None = None
    """Index of the caller's audio message in which speech ended."""
    speech_ended_at: float = 0.0
    """When that message arrived, on the clock of `time.monotonic`."""


@dataclasses.dataclass
class EndOfTurnFrame(SystemFrame):
    """The caller says, by pressing a button, that the turn is over."""


@dataclasses.dataclass
class CallerTurnFrame(DataFrame):
    """The caller's turn is over, and this is what was said."""

    turn: CallerTurn


@dataclasses.dataclass
class NothingSaidFrame(DataFrame):
    """There was a sound like speech, but no words: a cough, a door, another voice far off."""


@dataclasses.dataclass
class ReplyStartedFrame(LLMFullResponseStartFrame):
    """The sentences that follow, up to the end of the response, belong to this reply."""

    reply: Reply


@dataclasses.dataclass
class VoicedFrame(DataFrame):
    """Sound of a brain that speaks with a voice of its own."""

    voiced: Voiced


@dataclasses.dataclass
class SpokenWordsFrame(DataFrame):
    """The audio before this frame speaks these words."""

    words: str


@dataclasses.dataclass
class HangUpFrame(DataFrame):
    """The agent ends the call when all before this frame was heard."""


@dataclasses.dataclass
class GreetFrame(DataFrame):
    """The agent opens the conversation."""


@dataclasses.dataclass
class WrapUpFrame(DataFrame):
    """The call ends soon: the agent closes in words."""
