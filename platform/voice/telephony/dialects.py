"""The messages of carriers' media streams: JSON over a WebSocket that the carrier opens, sound of 8 kHz in base64.

Source: Twilio's documentation of Media Streams, Telnyx' of media streaming over WebSockets, and Plivo's of audio
streaming. SignalWire speaks Twilio's. Here is only in what they differ.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Dialect:
    stream_id: str
    """What the carrier calls the stream, in the start or beside it, and in each message."""
    call_ref: str
    """The call's name in the start."""
    media: str
    """To the carrier; STREAM, PAYLOAD and NAME stand for what they say."""
    mark: str
    clear: str
    parameters: str = ""
    """Where the start has the parameters of the markup. Empty: they come in the address."""
    media_format: str = "mediaFormat"
    sample_rate: str = "sampleRate"
    played: str = "mark"
    """The message that says that a mark was reached."""
    cleared: str = ""
    """The message that says that all was forgotten; without one, marks that were forgotten come back too."""


TWILIO = Dialect(
    stream_id="streamSid",
    call_ref="callSid",
    parameters="customParameters",
    media='{"event":"media","streamSid":STREAM,"media":{"payload":"PAYLOAD"}}',
    mark='{"event":"mark","streamSid":STREAM,"mark":{"name":"NAME"}}',
    clear='{"event":"clear","streamSid":STREAM}',
)
TELNYX = Dialect(
    stream_id="stream_id",
    call_ref="call_control_id",
    parameters="custom_parameters",
    media_format="media_format",
    sample_rate="sample_rate",
    media='{"event":"media","media":{"payload":"PAYLOAD"}}',
    mark='{"event":"mark","mark":{"name":"NAME"}}',
    clear='{"event":"clear"}',
)
PLIVO = Dialect(
    stream_id="streamId",
    call_ref="callId",
    media='{"event":"playAudio","media":{"contentType":"audio/x-mulaw","sampleRate":8000,"payload":"PAYLOAD"}}',
    mark='{"event":"checkpoint","streamId":STREAM,"name":"NAME"}',
    clear='{"event":"clearAudio","streamId":STREAM}',
    played="playedStream",
    cleared="clearedAudio",
)
