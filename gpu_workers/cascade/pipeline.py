"""The pipeline of one conversation, and its run from greeting to hang-up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import onnxruntime
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.workers.runner import WorkerRunner

from gpu_workers import pcm, protocol
from gpu_workers.cascade.answering import Answering
from gpu_workers.cascade.brain import Brain
from gpu_workers.cascade.conversation import Conversation
from gpu_workers.cascade.frames import CallerAudioFrame, EndOfTurnFrame, GreetFrame, WrapUpFrame
from gpu_workers.cascade.listening import Listening
from gpu_workers.cascade.moonshine import SAMPLE_RATE_HZ
from gpu_workers.cascade.turn_taking import TurnTaking
from gpu_workers.cascade.voice import Voice
from gpu_workers.line import Heard, Line, WrapUp
from gpu_workers.protocol import Control


async def converse(
    line: Line,
    brain: Brain,
    speech: onnxruntime.InferenceSession,
    *,
    stt: STTService,
    tts: TTSService,
    beside: Sequence[FrameProcessor] = (),
) -> None:
    """Talk until the agent or the caller hangs up.

    Args:
        speech: the model that tells speech from silence.
        stt, tts: services that transcribe and speak in this conversation alone.
        beside: what hears the caller, too, for the brain.
    """
    conversation = Conversation(line, brain)
    hung_up = asyncio.Event()
    worker = PipelineWorker(
        Pipeline(
            [
                *beside,
                Listening(speech),
                stt,
                TurnTaking(conversation),
                Answering(conversation),
                tts,
                Voice(conversation, hung_up),
            ]
        ),
        params=PipelineParams(
            audio_in_sample_rate=SAMPLE_RATE_HZ, audio_out_sample_rate=protocol.SAMPLE_RATE_HZ, enable_metrics=False
        ),
        enable_rtvi=False,
        enable_turn_tracking=False,
        idle_timeout_secs=None,
        check_dangling_tasks=False,
    )
    runner = WorkerRunner(handle_sigint=False, handle_sigterm=False, check_dangling_tasks=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run(), name="pipeline")
    listening = asyncio.create_task(_listen(line, worker), name="listening")
    leaving = asyncio.create_task(hung_up.wait(), name="hang-up")
    await worker.queue_frame(GreetFrame())
    try:
        done, _ = await asyncio.wait((running, listening, leaving), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if hung_up.is_set():
            await line.wait_until_heard()
    finally:
        listening.cancel()
        leaving.cancel()
        await runner.cancel()
        await asyncio.gather(running, listening, leaving, return_exceptions=True)


async def _listen(line: Line, worker: PipelineWorker) -> None:
    async for event in line:
        match event:
            case Heard():
                await worker.queue_frame(
                    CallerAudioFrame(
                        audio=pcm.to_bytes(event.samples),
                        sample_rate=protocol.SAMPLE_RATE_HZ,
                        num_channels=1,
                        message=event.message,
                        arrived_at=event.arrived_at,
                    )
                )
            case Control.END_OF_TURN:
                await worker.queue_frame(EndOfTurnFrame())
            case WrapUp():
                await worker.queue_frame(WrapUpFrame())
