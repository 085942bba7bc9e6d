"""A worker that does as it is told: a process of its own on the loopback, speaking the protocol.

Run as `python -m tests.voice.scripted_worker [--mode MODE]`; it prints its port. Which mode a call gets may also be
said by the agent's prompt (`mode: crash`), so that one process serves many tests. What it received goes to `--log` as
JSON lines.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from gpu_workers import protocol
from gpu_workers.protocol import BootKind, Kind

MESSAGES_PER_UTTERANCE = 10
"""In mode `answer` the caller is taken to have finished after so many audio messages."""
FAREWELL_MESSAGES = 100
"""More than fits between a worker and a caller who reads slowly."""
PARTS_MS = {"end_of_turn": 20.0, "stt": 8.0, "llm_ttft": 5.0, "tts_ttfb": 3.0}
REPLY = b"OggS a reply of the scripted worker"


class Session:
    """One caller's connection, with what was counted."""

    def __init__(self, connection: ServerConnection, log: Callable[[dict[str, Any]], None]) -> None:
        self.connection = connection
        self.log = log
        self.heard_messages = 0
        self.said_messages = 0

    async def say(self, payload: bytes = REPLY) -> int:
        await self.connection.send(protocol.audio(payload))
        self.said_messages += 1
        return self.said_messages - 1

    async def tell(self, document: dict[str, Any]) -> None:
        await self.connection.send(protocol.metadata(document))

    async def next_audio(self) -> bytes:
        while True:
            message = await self.connection.recv()
            assert isinstance(message, bytes)
            if message[0] == Kind.AUDIO:
                self.heard_messages += 1
                return message
            self.log({"event": "message", "kind": message[0], "bytes": len(message), "text": _text(message)})


async def echo(session: Session) -> None:
    while True:
        await session.connection.send(await session.next_audio())


async def answer(session: Session, utterances: int = 1_000_000) -> None:
    """Greet, then reply after each ten audio messages."""
    await session.tell(protocol.transcript(turn=0, role="agent", words="Hello from the script."))
    reply = await session.say()
    await session.tell(protocol.turn(index=0, speech_ended_message=None, reply_message=reply, parts_ms={}))
    for index in range(1, utterances + 1):
        for _ in range(MESSAGES_PER_UTTERANCE):
            await session.next_audio()
        ended = session.heard_messages - 1
        await asyncio.sleep(sum(PARTS_MS.values()) / 1000)
        await session.tell(protocol.transcript(turn=index, role="caller", words=f"Question {index}"))
        reply = await session.say()
        await session.tell(
            protocol.turn(index=index, speech_ended_message=ended, reply_message=reply, parts_ms=PARTS_MS)
        )
        await session.tell(protocol.transcript(turn=index, role="agent", words=f"Answer {index}"))


async def finish(session: Session) -> None:
    """Answer twice and hang up."""
    await answer(session, utterances=2)


async def farewell(session: Session) -> None:
    """Say more than fits on the way once the caller has spoken, and hang up at once."""
    await session.next_audio()
    listening = asyncio.create_task(listen(session))
    for _ in range(FAREWELL_MESSAGES):
        await session.say(bytes(400_000))
    await session.tell(protocol.transcript(turn=1, role="agent", words="Farewell."))
    await session.connection.close()
    listening.cancel()


async def listen(session: Session) -> None:
    while True:
        await session.next_audio()


async def crash(session: Session) -> None:
    """Answer once, then the process is gone."""
    await answer(session, utterances=1)
    os._exit(3)


async def lose(session: Session) -> None:
    """Answer once, then this connection is gone without a close frame."""
    await answer(session, utterances=1)
    session.connection.transport.abort()


async def vanish(session: Session) -> None:
    """Can talk, and is gone at once."""
    session.connection.transport.abort()


async def count(session: Session) -> None:
    """Say a numbered thing a hundred times a second, whatever the caller does."""
    listening = asyncio.create_task(listen(session))
    try:
        while True:
            await session.say(b"OggS number %d" % session.said_messages)
            await asyncio.sleep(0.01)
    finally:
        listening.cancel()


async def speak_alone(session: Session) -> None:
    """Say one thing, and ten more when the caller has long been away."""
    await session.say()
    await asyncio.sleep(1.0)
    for _ in range(10):
        await session.say()
    await listen(session)


async def read_nothing(session: Session) -> None:
    """Say one thing and read no more: the caller has to wait."""
    await session.say()
    await asyncio.Event().wait()


async def flood(session: Session) -> None:
    """Send as fast as the other side takes it."""
    while True:
        await session.say(bytes(32_000))


async def babble(session: Session) -> None:
    """Send what is not of the protocol's form, then answer."""
    for message in (
        b"",
        b"\x04not json",
        b"\x04[]",
        b'\x04{"type":"turn","index":-1}',
        b"\x09unknown kind",
        b'\x04{"type":"turn","index":1,"reply_message":99999,"parts_ms":{"stt":"x"}}',
        b'\x04{"type":"transcript","turn":"x","role":"agent","text":1}',
        b'\x04{"type":"boot","boot":"strange"}',
        b'\x04{"type":"boot","boot":"cold","boot_ms":1,"ready_age_ms":1,"container":"\\ud800"}',
        b'\x04{"type":"transcript","turn":0,"role":"agent","text":"half \\ud83d of a sign"}',
        b"\x04" + 100_000 * b"[",
    ):
        await session.connection.send(message)
    await session.connection.send("a text frame")
    await answer(session)


async def whistle(session: Session) -> None:
    """Greet with a real tone, and answer with one whenever the caller has spoken and is quiet again."""
    import numpy as np
    import sphn

    rate, frame = protocol.SAMPLE_RATE_HZ, 1920
    encoder, decoder = sphn.OpusStreamWriter(rate), sphn.OpusStreamReader(rate)
    tone = (0.2 * np.sin(2 * np.pi * 440 * np.arange(8 * frame) / rate)).astype(np.float32)

    async def whistle_once(index: int, ended: int | None) -> None:
        first = None
        for begin in range(0, len(tone), frame):
            if page := encoder.append_pcm(tone[begin : begin + frame]):
                reply = await session.say(page)
                if first is None and len(page) > 200:  # not the headers of the stream
                    first = reply
                    await session.tell(
                        protocol.turn(
                            index=index,
                            speech_ended_message=ended,
                            reply_message=reply,
                            parts_ms=PARTS_MS if index else {},
                        )
                    )
        await session.tell(protocol.transcript(turn=index, role="agent", words=f"Whistle {index}"))

    await whistle_once(0, None)
    index, heard, loud_message, quiet_samples = 1, False, 0, 0
    while True:
        sound = decoder.append_bytes((await session.next_audio())[1:])
        if len(sound) and np.abs(sound).max() > 0.02:
            heard, loud_message, quiet_samples = True, session.heard_messages - 1, 0
        else:
            quiet_samples += len(sound)
        if heard and quiet_samples > 0.4 * rate:
            await whistle_once(index, loud_message)
            index, heard = index + 1, False


async def part(session: Session) -> None:
    """Hear a little, and hang up."""
    for _ in range(3):
        await session.next_audio()


async def hand_over(session: Session) -> None:
    """Leave word that a person is wanted, and hang up."""
    await session.tell(protocol.tool(turn=0, name="hand_off", ok=True, duration_ms=1))


async def reads_keys(session: Session) -> None:
    """Hang up when the caller presses the hash key."""
    while True:
        message = await session.connection.recv()
        if isinstance(message, bytes) and message[0] == Kind.KEYS and b"#" in message:
            return


async def last_words(session: Session) -> None:
    """Say something of a second and a half as fast as it goes, and hang up at once."""
    import numpy as np
    import sphn

    encoder = sphn.OpusStreamWriter(protocol.SAMPLE_RATE_HZ)
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(960 * 38) / protocol.SAMPLE_RATE_HZ)
    for begin in range(0, len(tone), 960):
        if page := encoder.append_pcm(tone[begin : begin + 960].astype(np.float32)):
            await session.say(page)


async def interrupted(session: Session) -> None:
    """Be interrupted as soon as something is heard."""
    await session.next_audio()
    await session.tell(protocol.transcript(turn=0, role="agent", words="As I was", interrupted=True))
    await listen(session)


MODES: dict[str, Callable[[Session], Awaitable[None]]] = {
    "echo": echo,
    "answer": answer,
    "finish": finish,
    "farewell": farewell,
    "crash": crash,
    "lose": lose,
    "vanish": vanish,
    "count": count,
    "speak_alone": speak_alone,
    "read_nothing": read_nothing,
    "flood": flood,
    "babble": babble,
    "whistle": whistle,
    "part": part,
    "hand_over": hand_over,
    "interrupted": interrupted,
    "reads_keys": reads_keys,
    "last_words": last_words,
}
NO_HANDSHAKE = {"silent", "refuse", "close_early"}


async def serve_session(connection: ServerConnection, mode: str, log: Callable[[dict[str, Any]], None]) -> None:
    started = time.monotonic()
    session = Session(connection, log)
    try:
        start = protocol.read_metadata(await connection.recv())  # type: ignore[arg-type]
        log({"event": "start", "document": start, "token": connection.request.headers.get("Modal-Authorization")})  # type: ignore[union-attr]
        if told := re.search(r"mode: (\w+)", str(start.get("agent", {}).get("prompt", ""))):
            mode = told[1]
        if mode == "silent":
            await connection.wait_closed()
        elif mode == "refuse":
            await connection.send(protocol.error("The scripted worker refuses."))
        elif mode == "close_early":
            await connection.close(4529, "full")
        else:
            if mode == "early":
                await session.tell(protocol.transcript(turn=0, role="agent", words="Before I can talk."))
                mode = "echo"
            await connection.send(protocol.handshake())
            age_ms = (time.monotonic() - started) * 1000
            boot = protocol.boot(
                boot=BootKind.RESTORED, boot_ms=123.4, ready_age_ms=60_000 + age_ms, container="scripted-1"
            )
            await session.tell(boot)
            for part in start.get("parts", {}):
                await session.tell(protocol.part(part=part, boot={**boot, "container": f"scripted-{part}"}))
            await MODES[mode](session)
    except ConnectionClosed:
        pass
    finally:
        await connection.close()
        log({"event": "closed", "code": connection.close_code, "heard": session.heard_messages})


async def run(mode: str, port: int, log_path: Path | None) -> None:
    def log(event: dict[str, Any]) -> None:
        if log_path is not None:
            with log_path.open("a") as file:
                file.write(json.dumps(event) + "\n")

    def refuse_when_full(connection: ServerConnection, request: Request) -> Response | None:
        if mode == "at_capacity":
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, '{"error":"no place left"}')
        return None

    async def handle(connection: ServerConnection) -> None:
        await serve_session(connection, mode, log)

    async with serve(
        handle, "127.0.0.1", port, process_request=refuse_when_full, compression=None, max_size=None, max_queue=4
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


def _text(message: bytes) -> str:
    return message[1:200].decode(errors="replace")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", default="answer", choices=[*MODES, *NO_HANDSHAKE, "at_capacity"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.mode, arguments.port, arguments.log))
