"""A conversation's connection to OpenAI Realtime: Pipecat's service for it, with the tenant's key.

First in the pipeline, since it is to hear the caller as well as the line does. Whose turn it is the cascade decides, by
what it hears itself: the service gets a turn's sound as it comes, and answers when it is told that the turn is over.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pipecat.frames.frames import Frame, LLMServiceMetadataFrame, UserStartedSpeakingFrame, UserStoppedSpeakingFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService

from gpu_workers import protocol
from gpu_workers.cascade.frames import CallerAudioFrame
from gpu_workers.cascade.passages import Passage

logger = logging.getLogger(__name__)

ADDRESS = "wss://api.openai.com/v1/realtime"
VOICE = "marin"
"""Where the agent names none."""

CONNECT_SECONDS = 3.0
READY_SECONDS = 4.0
SEND_SECONDS = 2.0
CLOSE_SECONDS = 1.0
FIRST_SOUND_SECONDS = 4.0
STALL_SECONDS = 10.0
BYTES_PER_SECOND = 2 * protocol.SAMPLE_RATE_HZ
KEPT_BEFORE_SPEECH = BYTES_PER_SECOND // 2
LEAST_SPEECH = BYTES_PER_SECOND // 10
"""The service takes nothing shorter for a turn."""
MAY_FAIL = "may-fail-"
"""Begins the ids of events that come too late at times: what they were to stop had ended."""

Said = events.ResponseAudioDelta | events.ResponseAudioTranscriptDelta | events.ResponseDone


class ServiceLost(Exception):
    """The service refused, failed or was late. The sentence says which, and nothing of what was said."""


class RealtimeConnection(OpenAIRealtimeLLMService):
    def __init__(
        self, *, key: str, instructions: str, voice: str, model: str | None, tools: Sequence[dict[str, Any]]
    ) -> None:
        settings = self.Settings(
            system_instruction=instructions,
            session_properties=events.SessionProperties(
                instructions=instructions,
                output_modalities=["audio"],
                audio=events.AudioConfiguration(
                    input=events.AudioInput(format=events.PCMAudioFormat(), turn_detection=False),
                    output=events.AudioOutput(format=events.PCMAudioFormat(), voice=voice or VOICE),
                ),
                tools=[{"type": "function", **tool} for tool in tools],
                tool_choice="auto",
            ),
        )
        if model:
            settings.model = model
        super().__init__(
            api_key=key,
            base_url=os.environ.get("WORKER_OPENAI_REALTIME_URL") or ADDRESS,
            settings=settings,
            start_audio_paused=True,
        )
        self.lost: str | None = None
        """Why the service is of no use any more."""
        self._ready = asyncio.Event()
        self._silent = asyncio.Event()
        """No response is being made."""
        self._silent.set()
        self._said: asyncio.Queue[Said | None] = asyncio.Queue()
        self._response_id: str | None = None
        """Of the response that was asked for last, once it is being made."""
        self._passages: list[Passage] = []
        self._before_speech = bytearray()
        self._heard_bytes = 0
        self._hanging_up: asyncio.Task[None] | None = None

    def service_metadata_frame(self) -> LLMServiceMetadataFrame:
        """Say what it is; that turns come from elsewhere needs no warning."""
        return LLMServiceMetadataFrame(service_name=self.name, is_realtime_service=True)

    # --- what the caller says ---------------------------------------------------------------------------------------
    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        match frame:
            case CallerAudioFrame(audio=audio):
                if self._audio_input_paused:
                    self._before_speech += audio
                    del self._before_speech[:-KEPT_BEFORE_SPEECH]
                else:
                    self._heard_bytes += len(audio)
            case UserStartedSpeakingFrame():
                await self._begin_turn()
            case UserStoppedSpeakingFrame():
                self.set_audio_input_paused(True)
        await super().process_frame(frame, direction)

    async def _begin_turn(self) -> None:
        """Have the service hear the caller from a little before now. Silence is not sent: the tenant pays for it."""
        self.set_audio_input_paused(False)
        await self.send_client_event(events.InputAudioBufferClearEvent())
        audio = base64.b64encode(bytes(self._before_speech)).decode()
        await self.send_client_event(events.InputAudioBufferAppendEvent(audio=audio))
        self._heard_bytes = len(self._before_speech)
        self._before_speech.clear()

    async def end_turn(self, words: str) -> None:
        """Tell the service that what it has heard is a turn; where it has heard nothing of it, what was said."""
        if self._heard_bytes >= LEAST_SPEECH:
            await self.send_client_event(events.InputAudioBufferCommitEvent())
        else:
            await self.tell(words, role="user")
        self._heard_bytes = 0

    async def tell(self, text: str, *, role: Any = "system") -> None:
        """Put a message into the conversation."""
        content = [events.ItemContent(type="input_text", text=text)]
        item = events.ConversationItem(type="message", role=role, content=content)
        await self.send_client_event(events.ConversationItemCreateEvent(item=item))

    async def answer_call(self, call_id: str, output: str) -> None:
        """Put what came of a tool into the conversation."""
        item = events.ConversationItem(type="function_call_output", call_id=call_id, output=output)
        await self.send_client_event(events.ConversationItemCreateEvent(item=item))

    # --- what the service says --------------------------------------------------------------------------------------
    async def respond(self, *, may_call: bool) -> AsyncIterator[Said]:
        """Have the service speak; yield the pieces of its sound, their words, and last that it is done.

        Raises:
            ServiceLost
        """
        await self._wait(self._ready, READY_SECONDS)
        await self._wait(self._silent, READY_SECONDS)
        while not self._said.empty():
            self._said.get_nowait()
        self._passages = [passage for passage in self._passages if passage.was_cut_off]
        wanted = events.ResponseProperties(tool_choice="auto" if may_call else "none")
        self._response_id = None
        await self.send_client_event(events.ResponseCreateEvent(response=wanted))
        limit_seconds = FIRST_SOUND_SECONDS
        while True:
            self._raise_if_lost()
            try:
                async with asyncio.timeout(limit_seconds):
                    said = await self._said.get()
            except TimeoutError:
                self._lose("it was late")
                continue
            if said is None or self._response_id != _response_of(said):
                continue  # of a response that was cut off
            limit_seconds = STALL_SECONDS
            yield said
            if isinstance(said, events.ResponseDone):
                return

    def passage_of(self, item_id: str) -> Passage:
        """Return the passage that an item of the conversation is."""
        for passage in self._passages:
            if passage.id == item_id:
                return passage
        self._passages.append(Passage(item_id))
        return self._passages[-1]

    async def _handle_interruption(self) -> None:
        """Stop the response that is being made, if any, and have the service forget what the caller has not heard."""
        await self.send_client_event(events.ResponseCancelEvent(event_id=f"{MAY_FAIL}cancel"))
        for passage in self._passages:
            if passage.was_cut_off:
                await self.send_client_event(
                    events.ConversationItemTruncateEvent(
                        event_id=f"{MAY_FAIL}{passage.id}",
                        item_id=passage.id,
                        content_index=0,
                        audio_end_ms=int(passage.heard_seconds * 1000),
                    )
                )
        self._passages.clear()

    async def _handle_user_stopped_speaking(self, frame: Frame) -> None:
        """Wait for what the turn is taken for: not every sound is one."""

    async def _handle_evt_session_updated(self, evt: Any) -> None:
        self._ready.set()

    async def _handle_evt_conversation_item_added(self, evt: Any) -> None:
        """Nothing: what matters of an item comes in its pieces, and with the end of the response."""

    async def _handle_evt_function_call_arguments_done(self, evt: Any) -> None:
        """Nothing, for the same reason."""

    async def _handle_evt_audio_delta(self, evt: events.ResponseAudioDelta) -> None:
        self._said.put_nowait(evt)

    async def _handle_evt_audio_transcript_delta(self, evt: events.ResponseAudioTranscriptDelta) -> None:
        self._said.put_nowait(evt)

    async def _handle_evt_response_created(self, evt: events.ResponseCreated) -> None:
        self._response_id = evt.response.id
        self._silent.clear()

    async def _handle_evt_response_done(self, evt: events.ResponseDone) -> None:
        self._silent.set()
        if evt.response.status == "failed":
            self._lose("it failed")
        self._said.put_nowait(evt)

    # --- what goes wrong --------------------------------------------------------------------------------------------
    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await super()._connect()
        except TimeoutError:
            self._lose("it was late")

    async def _disconnect(self) -> None:
        websocket = self._websocket
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await super()._disconnect()
        except TimeoutError:
            if websocket is not None:
                websocket.transport.abort()

    async def _receive_task_handler(self) -> None:
        try:
            await super()._receive_task_handler()
        except Exception as problem:
            # Not in its own words: a provider may repeat what was sent to it.
            logger.warning("a managed conversation was lost", extra={"fields": {"reason": type(problem).__name__}})
        if not self._disconnecting:
            self._lose("it broke off")

    async def _ws_send(self, realtime_message: dict[str, Any]) -> None:
        if self.lost is not None:
            return
        try:
            async with asyncio.timeout(SEND_SECONDS):  # the caller's sound goes on through here
                await super()._ws_send(realtime_message)
        except TimeoutError:
            self._lose("it takes nothing")

    async def _maybe_handle_evt_retrieve_conversation_item_error(self, evt: events.ErrorEvent) -> bool:
        """Return whether the conversation goes on after an error."""
        return (evt.error.event_id or "").startswith(MAY_FAIL)

    async def push_error(self, *_: Any, **__: Any) -> None:
        """Take no error for one of the pipeline's: the cascade goes on by itself."""
        self._lose("it refused or failed")

    def _lose(self, reason: str) -> None:
        if self.lost is None:
            self.lost = reason
            self._ready.set()
            self._silent.set()
            self._said.put_nowait(None)
            self._hanging_up = asyncio.create_task(self._disconnect(), name="hang up")

    def _raise_if_lost(self) -> None:
        if self.lost is not None:
            raise ServiceLost(self.lost)

    async def _wait(self, event: asyncio.Event, limit_seconds: float) -> None:
        try:
            async with asyncio.timeout(limit_seconds):
                await event.wait()
        except TimeoutError:
            self._lose("it was late")
        self._raise_if_lost()


def _response_of(said: Said) -> str | None:
    return said.response.id if isinstance(said, events.ResponseDone) else said.response_id
