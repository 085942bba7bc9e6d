"""A whole conversation with every real part: supervisor, worker, gateway, web process; spoken by `manage.py call`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from agents.catalog import templates_by_slug
from agents.models import Agent, Appointment
from agents.versions import create_agent_from_template, publish
from content.models import ToolRun, TranscriptLine
from gpu_workers.cascade.moonshine import Moonshine
from gpu_workers.protocol import SAMPLE_RATE_HZ
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.gpu_workers.speech import speak
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import ROOT, running
from tests.voice.supervised import supervisor_with_a_pool
from tests.voice.test_muxing import loud_seconds
from tests.voice.test_recording import make, played
from tests.web.web_process import WebProcess
from voice.models import Call
from voice.tickets import issue_ticket
from voice.wav_caller import read_wav, write_wav


@pytest.fixture
def house_of_processes(
    acme: Tenant, own_gateway: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GatewayProcess]:
    """A supervisor with one warm cascade worker for acme, a web process for its tools, and a gateway."""
    with supervisor_with_a_pool(acme, tmp_path, monkeypatch) as reached:
        web = WebProcess(tmp_path, gateway_url="ws://127.0.0.1:1")
        with running(web.process):
            yield own_gateway(
                **reached,
                INTERNAL_URL=web.url,
                GATEWAY_HANDSHAKE_SECONDS="20",
                GATEWAY_CALLER_SILENCE_SECONDS="60",
            )


def publish_salon(tenant: Tenant, **more: Any) -> Agent:
    with enter_tenant(tenant.id):
        agent = create_agent_from_template(template=templates_by_slug()["salon-front-desk"], actor=None, slug="salon")
        agent.draft |= more
        agent.save()
        publish(agent=agent, actor=None)
        agent.refresh_from_db()
        return agent


def test_a_caller_books_an_appointment_by_voice_and_can_be_heard_doing_it(
    house_of_processes: GatewayProcess, acme: Tenant, tmp_path: Path
) -> None:
    publish_salon(acme, recording={"enabled": True})
    wavs = []
    for number, words in enumerate(
        (
            "I would like to book a haircut.",
            "Next Thursday at three in the afternoon, please.",
            "My name is Dora Miller.",
            "My number is four one five, five five five, zero one two three.",
            "Yes, please.",
        )
    ):
        wavs += ["--wav", str(tmp_path / f"{number}.wav")]
        write_wav(tmp_path / f"{number}.wav", speak(words))
    done = subprocess.run(
        [
            sys.executable,
            "manage.py",
            "call",
            "--tenant",
            "acme",
            "--agent",
            "salon",
            *wavs,
            "--gateway",
            house_of_processes.url,
            "--out",
            str(tmp_path / "reply.wav"),
            "--json",
        ],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr + house_of_processes.log
    record = json.loads(done.stdout)
    said = json.dumps(record["transcript"], indent=1)

    assert record["boot"] == "warm" and record["ready_ms"] < 1500
    assert len(record["turns"]) == 6, said
    assert "haircut" in record["turns"][1]["caller"].lower(), said
    for turn in record["turns"][1:]:
        assert turn["agent"]
        assert sum(turn["parts_ms"].values()) == turn["turn_ms"] > 0
    assert record["cost"]["nano_dollars"] > 0
    assert np.abs(read_wav(tmp_path / "reply.wav")).max() > 0.05

    with enter_tenant(acme.id):
        (appointment,) = Appointment.objects.all()
        assert appointment.service.name == "haircut", said
        (run,) = ToolRun.objects.filter(name="book_appointment")
        assert run.ok and str(run.call_id) == record["id"]
    assert [tool["name"] for tool in record["tools"]] == ["book_appointment"]
    assert_recording_holds_what_was_said(acme)


def assert_recording_holds_what_was_said(tenant: Tenant) -> None:
    """Listen to each side of the recording: the words are those of who is there, in turn, with silence between them."""
    recording = make(tenant)
    assert (recording.state, recording.problem) == ("ready", "")
    caller, agent = played(recording)
    moonshine = Moonshine()
    said = {"caller": utterances(caller), "agent": utterances(agent)}
    words = {
        side: [
            moonshine.transcribe(soxr.resample(sound[round(begin * 24_000) : round(end * 24_000)], 24_000, 16_000))
            for begin, end in said[side]
        ]
        for side, sound in (("caller", caller), ("agent", agent))
    }
    heard = {side: " ".join(each).lower() for side, each in words.items()}
    assert "recorded" in words["agent"][0].lower(), words
    assert "haircut" in words["caller"][0].lower(), words
    assert "thursday" in heard["caller"] and "dora" in heard["caller"] and "please" in heard["caller"], words
    assert "thursday" in heard["agent"] and "miller" not in heard["agent"].split("name")[0], words
    for begin, end in said["caller"]:  # nobody talks over the caller, who waits for each reply to end
        other = agent[round((begin + 0.2) * 24_000) : round((end - 0.2) * 24_000)]
        assert np.sqrt((other**2).mean()) < 0.002, (begin, end, said)


def utterances(sound: np.ndarray) -> list[tuple[float, float]]:
    """Return (begin, end) in seconds of what was said without a long pause."""
    joined: list[tuple[float, float]] = []
    for begin, end in loud_seconds(sound):
        if joined and begin - joined[-1][1] < 0.8:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return [(max(0.0, begin - 0.1), end + 0.1) for begin, end in joined]


def test_moshis_own_client_holds_a_conversation(
    house_of_processes: GatewayProcess, acme: Tenant, tmp_path: Path
) -> None:
    """`moshi.client` of the package `moshi`, with a stand-in for its sound card alone."""
    agent = publish_salon(acme)
    with enter_tenant(acme.id):
        ticket = issue_ticket(agent)
    address = f"{house_of_processes.url}/call/{ticket}".replace("ws://", "http://")
    quiet = np.zeros(SAMPLE_RATE_HZ, dtype=np.float32)
    spoken = [np.tile(quiet, 6), speak("What are your opening hours?"), np.tile(quiet, 8), speak("No, goodbye.")]
    write_wav(tmp_path / "microphone.wav", np.concatenate(spoken))
    sound_card = {
        "PYTHONPATH": str(Path(__file__).parent / "sound_card"),
        "SOUND_CARD_PLAYS": str(tmp_path / "microphone.wav"),
        "SOUND_CARD_RECORDS": str(tmp_path / "heard.wav"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "moshi.client", "--url", address],
        env={**os.environ, **sound_card},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Connection closed" in done.stderr or "All done" in done.stderr
    said = done.stdout.lower()
    assert "nine" in said and "goodbye" in said, (done.stdout, done.stderr)
    heard = read_wav(tmp_path / "heard.wav")
    assert np.sqrt((heard**2).mean()) > 0.01
    with enter_tenant(acme.id):
        call = Call.objects.get()
        lines = [line.text.lower() for line in TranscriptLine.objects.of_call(call.pk) if line.role == "caller"]
    assert any("opening hours" in line for line in lines), lines
    assert call.end_reason == "agent_hung_up" and call.turns_count >= 2
