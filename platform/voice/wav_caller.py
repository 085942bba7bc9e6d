"""A caller made of WAV files: speaks them in real time over the protocol, and keeps what it hears.

It speaks when the agent has finished, and takes a reply for finished when it has been quiet for a while. See also:
`manage.py call`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soxr
import sphn
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Origin

from gpu_workers import protocol
from gpu_workers.protocol import SAMPLE_RATE_HZ, CloseCode, Kind

Samples = NDArray[np.float32]

FRAME_SAMPLES = 960  # 40 ms, a length that Opus knows
FRAME_SECONDS = FRAME_SAMPLES / SAMPLE_RATE_HZ
LONGEST_REPLY_SECONDS = 20.0
"""An agent that talks for longer, as one that listens and speaks at once may, is talked over."""
QUIET_AFTER_REPLY_SECONDS = 1.2
"""A reply is over when it has been quiet for so long; sentences of one reply are closer together."""
AUDIBLE = 0.003
"""Of full scale; what is under it is silence."""
GREETING_SECONDS = 4.0
"""An agent that has said nothing for so long after the handshake waits for the caller to begin."""
PAUSE_SECONDS = 0.3
"""The shortest pause at which a WAV may be cut into utterances."""


class CallFailed(Exception):
    """The call could not be held as asked. The sentence may be shown."""


def read_wav(path: Path) -> Samples:
    """Return a WAV file's sound: mono, 24 kHz, -1 to 1.

    Raises:
        CallFailed: it is not a 16-bit PCM WAV file.
    """
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise CallFailed(f"{path} has {8 * file.getsampwidth()}-bit samples: convert it to 16 bits.")
            frames = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
            samples = frames.reshape(-1, file.getnchannels()).mean(axis=1).astype(np.float32) / 32768
            return soxr.resample(samples, file.getframerate(), SAMPLE_RATE_HZ).astype(np.float32)
    except (OSError, wave.Error, EOFError) as problem:
        raise CallFailed(f"{path} cannot be read as a WAV file: {problem}.") from problem


def write_wav(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def cut_into_utterances(samples: Samples, count: int) -> list[Samples]:
    """Cut speech at its `count` - 1 longest pauses.

    Raises:
        CallFailed: there are fewer pauses.
    """
    step = SAMPLE_RATE_HZ // 100
    steps = len(samples) // step
    loud = np.abs(samples[: steps * step]).reshape(steps, step).max(axis=1) > AUDIBLE
    spoken = np.flatnonzero(loud)
    if not len(spoken):
        raise CallFailed("The WAV file is silent.")
    gaps = np.diff(spoken)
    longest = sorted(np.argsort(gaps)[::-1][: count - 1])
    if len(longest) < count - 1 or any(gaps[place] * 0.01 < PAUSE_SECONDS for place in longest):
        raise CallFailed(f"The WAV file has fewer than {count} utterances with a pause between them.")
    cuts = [int((spoken[place] + gaps[place] / 2) * step) for place in longest]
    return np.split(samples, cuts)


@dataclasses.dataclass
class Heard:
    """What came back: sound as it would have been played, and the gateway's word on the call."""

    call_id: str | None = None
    close_code: int | None = None
    close_reason: str = ""
    messages: list[dict] = dataclasses.field(default_factory=list)
    pieces: list[tuple[float, Samples]] = dataclasses.field(default_factory=list)
    """(second since the start at which it is played, sound)"""

    def recording(self) -> Samples:
        """Return all of it on one timeline, with the silence between."""
        total = max((round(at * SAMPLE_RATE_HZ) + len(piece) for at, piece in self.pieces), default=0)
        mixed = np.zeros(total, dtype=np.float32)
        for at, piece in self.pieces:
            begin = round(at * SAMPLE_RATE_HZ)
            mixed[begin : begin + len(piece)] += piece
        return mixed


class WavCaller:
    """One call over one connection."""

    def __init__(self, connection: ClientConnection, *, longest_reply_seconds: float) -> None:
        self._connection = connection
        self._longest_reply_seconds = longest_reply_seconds
        self._encoder = sphn.OpusStreamWriter(SAMPLE_RATE_HZ)
        self._decoder = sphn.OpusStreamReader(SAMPLE_RATE_HZ)
        self._to_say: list[Samples] = []
        self._began = time.monotonic()
        self._plays_until = 0.0
        self._audible_until = 0.0
        self._is_ready = asyncio.Event()
        self._has_spoken = asyncio.Event()
        self.heard = Heard()

    async def hold(self, utterances: Sequence[Samples], *, reply_timeout_seconds: float) -> None:
        """Hear the greeting out, then say each utterance and hear its reply out.

        Raises:
            CallFailed: the agent did not say anything in time.
        """
        sending = asyncio.create_task(self._send_sound(), name="send sound")
        receiving = asyncio.create_task(self._receive(), name="receive")
        talking = asyncio.create_task(self._talk(utterances, reply_timeout_seconds), name="talk")
        try:
            await asyncio.wait({receiving, talking}, return_when=asyncio.FIRST_COMPLETED)
            if talking.done():
                talking.result()
        finally:
            for task in (sending, talking):
                task.cancel()
            await asyncio.gather(sending, talking, return_exceptions=True)
            await self._connection.close()
            await receiving

    async def _talk(self, utterances: Sequence[Samples], reply_timeout_seconds: float) -> None:
        await self._hear_greeting(reply_timeout_seconds)
        for utterance in utterances:
            self._to_say = [
                np.pad(utterance[at : at + FRAME_SAMPLES], (0, max(0, at + FRAME_SAMPLES - len(utterance))))
                for at in range(0, len(utterance), FRAME_SAMPLES)
            ]
            self._has_spoken.clear()
            await self._has_spoken.wait()
            await self._hear_reply(since=self._now(), timeout_seconds=reply_timeout_seconds)

    async def _hear_greeting(self, timeout_seconds: float) -> None:
        """Wait until the agent has said its opening words, if it has any."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._is_ready.wait()
        except TimeoutError:
            raise CallFailed(f"The agent was not ready after {timeout_seconds:.0f} seconds.") from None
        with contextlib.suppress(CallFailed):
            await self._hear_reply(since=self._now(), timeout_seconds=GREETING_SECONDS)

    async def _hear_reply(self, *, since: float, timeout_seconds: float) -> None:
        """Wait until the agent has said something and is quiet again, or has talked on and on."""
        began: float | None = None
        while True:
            now = self._now()
            if self._audible_until > since:
                began = now if began is None else began
                if now > min(self._audible_until + QUIET_AFTER_REPLY_SECONDS, began + self._longest_reply_seconds):
                    return
            elif now > since + timeout_seconds:
                raise CallFailed(f"The agent said nothing for {timeout_seconds:.0f} seconds.")
            await asyncio.sleep(FRAME_SECONDS)

    def _now(self) -> float:
        return time.monotonic() - self._began

    async def _send_sound(self) -> None:
        """Send a frame every 40 ms, speech or silence, as a microphone does."""
        silence = np.zeros(FRAME_SAMPLES, dtype=np.float32)
        due = time.monotonic()
        try:
            while True:
                if not self._to_say:
                    self._has_spoken.set()
                frame = self._to_say.pop(0) if self._to_say else silence
                if page := self._encoder.append_pcm(frame):
                    await self._connection.send(protocol.audio(page))
                due += FRAME_SECONDS
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        except ConnectionClosed:
            pass  # the receiver notes how

    async def _receive(self) -> None:
        try:
            while True:
                message = await self._connection.recv()
                if isinstance(message, bytes) and message:
                    self._take(message)
        except ConnectionClosed:
            self.heard.close_code = self._connection.close_code
            self.heard.close_reason = self._connection.close_reason or ""

    def _take(self, message: bytes) -> None:
        if message[0] == Kind.AUDIO:
            sound = self._decoder.append_bytes(message[1:])
            if len(sound):
                self._play(sound)
        elif message[0] == Kind.HANDSHAKE:
            self._is_ready.set()
        elif message[0] == Kind.METADATA:
            document = protocol.read_metadata(message)
            self.heard.messages.append(document)
            if document["type"] == "call":
                self.heard.call_id = document["call_id"]

    def _play(self, sound: Samples) -> None:
        """Note when the sound is played: at once, or after what came before it and still plays."""
        begin = max(self._now(), self._plays_until)
        self.heard.pieces.append((begin, sound))
        self._plays_until = begin + len(sound) / SAMPLE_RATE_HZ
        audible = np.flatnonzero(np.abs(sound) > AUDIBLE)
        if len(audible):
            self._audible_until = begin + (int(audible[-1]) + 1) / SAMPLE_RATE_HZ


async def call_with_wavs(
    url: str,
    utterances: Sequence[Samples],
    *,
    reply_timeout_seconds: float = 30.0,
    longest_reply_seconds: float = LONGEST_REPLY_SECONDS,
    origin: str | None = None,
) -> Heard:
    """Hold one call at a gateway's address.

    Args:
        longest_reply_seconds: an agent that talks for longer is talked over.

    Raises:
        CallFailed: the gateway cannot be reached or refused the call, or the agent stayed silent.
    """
    try:
        connection = await connect(
            url,
            compression=None,
            max_size=protocol.MAX_MESSAGE_BYTES,
            proxy=None,
            origin=Origin(origin) if origin else None,
            open_timeout=10,
        )
    except (OSError, InvalidHandshake, TimeoutError) as problem:
        raise CallFailed(f"The gateway cannot be reached: {problem}. Is it running?") from problem
    caller = WavCaller(connection, longest_reply_seconds=longest_reply_seconds)
    await caller.hold(utterances, reply_timeout_seconds=reply_timeout_seconds)
    if caller.heard.call_id is None:
        code = caller.heard.close_code or CloseCode.INTERNAL_ERROR
        raise CallFailed(f"The call was refused ({code}): {caller.heard.close_reason or 'no reason given'}")
    return caller.heard
