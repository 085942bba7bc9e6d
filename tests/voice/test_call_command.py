"""`manage.py call`: a real call from a WAV file, with real Opus both ways."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import ROOT
from voice.wav_caller import CallFailed, cut_into_utterances, read_wav, write_wav

RATE = 24_000


def beeps(count: int, *, seconds: float = 0.4, pause_seconds: float = 0.8) -> np.ndarray:
    """Return so many utterances of noise with pauses between them."""
    chance = np.random.default_rng(5)
    noise = 0.2 * chance.standard_normal(round(seconds * RATE)).astype(np.float32)
    silence = np.zeros(round(pause_seconds * RATE), dtype=np.float32)
    return np.concatenate([piece for _ in range(count) for piece in (noise, silence)]).clip(-1, 1)


def call(gateway: GatewayProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "call", "--gateway", gateway.url, "--timeout", "10", *arguments],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def whistler(acme: Tenant, place: Any) -> None:
    with enter_tenant(acme.id):
        factories.create_agent(slug="whistler", prompt="mode: whistle")


def test_one_wav_is_one_turn_and_the_record_is_all_of_stdout(
    gateway: GatewayProcess, whistler: None, tmp_path: Path
) -> None:
    write_wav(tmp_path / "in.wav", beeps(1))
    done = call(
        gateway,
        "--tenant",
        "acme",
        "--agent",
        "whistler",
        "--wav",
        str(tmp_path / "in.wav"),
        "--out",
        str(tmp_path / "out.wav"),
        "--region",
        "eu-west",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert "\n" not in done.stdout.strip()
    assert (record["status"], record["end_reason"], record["channel"]) == ("ended", "caller_hung_up", "command")
    assert (record["caller_region"], record["region"]) == ("eu-west", "local")
    assert [turn["index"] for turn in record["turns"]] == [0, 1]
    assert [turn["agent"] for turn in record["turns"]] == ["Whistle 0", "Whistle 1"]
    # The scripted worker waits for 0.4 s of quiet.
    assert 300 < record["turns"][1]["turn_ms"] < 1500
    assert record["cost"]["nano_dollars"] == sum(part["nano_dollars"] for part in record["cost"]["parts"]) > 0

    heard = read_wav(tmp_path / "out.wav")
    loud = np.abs(heard) > 0.05
    assert 0.8 * RATE < loud.sum() < 1.6 * RATE  # two whistles of 0.64 s, where a sine is not near zero
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)


def test_one_wav_is_cut_into_turns(gateway: GatewayProcess, whistler: None, tmp_path: Path) -> None:
    write_wav(tmp_path / "in.wav", beeps(3))
    done = call(gateway, "--tenant", "acme", "--agent", "whistler", "--wav", str(tmp_path / "in.wav"), "--turns", "3")
    assert done.returncode == 0, done.stderr
    assert [turn["index"] for turn in json.loads(done.stdout)["turns"]] == [0, 1, 2, 3]


def test_each_of_several_wavs_is_a_turn(gateway: GatewayProcess, whistler: None, tmp_path: Path) -> None:
    write_wav(tmp_path / "in.wav", beeps(1))
    wavs = ["--wav", str(tmp_path / "in.wav")] * 2
    done = call(gateway, "--tenant", "acme", "--agent", "whistler", *wavs)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["turns"]) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--tenant", "nobody", "--agent", "whistler"), "There is no tenant nobody."),
        (("--tenant", "acme", "--agent", "nobody"), "Acme has no agent nobody. It has: whistler."),
        (("--tenant", "acme", "--agent", "whistler", "--turns", "0"), "--turns must be 1 or more."),
        (("--tenant", "acme", "--agent", "whistler", "--region", "moon"), "There is no region 'moon': choose one of"),
        (("--tenant", "acme", "--agent", "whistler", "--turns", "9"), "fewer than 9 utterances"),
        (("--tenant", "acme", "--agent", "whistler", "--wav", "/nonexistent.wav"), "cannot be read as a WAV file"),
        (("--tenant", "acme", "--agent", "whistler", "--gateway", "ws://127.0.0.1:9"), "The gateway cannot be reached"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    gateway: GatewayProcess, whistler: None, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    write_wav(tmp_path / "in.wav", beeps(1))
    done = call(gateway, "--wav", str(tmp_path / "in.wav"), *arguments)
    assert done.returncode == 1
    assert sentence in done.stderr and not done.stdout
    assert "Traceback" not in done.stderr


def test_a_refused_call_says_why(gateway: GatewayProcess, acme: Tenant, tmp_path: Path) -> None:
    with enter_tenant(acme.id):
        factories.create_agent(slug="placeless")
    write_wav(tmp_path / "in.wav", beeps(1))
    done = call(gateway, "--tenant", "acme", "--agent", "placeless", "--wav", str(tmp_path / "in.wav"))
    assert done.returncode == 1
    assert "(4503): No agent could be reached: try again later." in done.stderr


def test_a_wav_is_cut_at_its_longest_pauses() -> None:
    speech = np.concatenate([beeps(1, pause_seconds=0.4), beeps(1, pause_seconds=1.0), beeps(1)])
    first, second = cut_into_utterances(speech, 2)
    assert len(first) == pytest.approx(1.7 * RATE, rel=0.02)
    assert len(first) + len(second) == len(speech)


@pytest.mark.parametrize(("width", "sentence"), [(1, "8-bit"), (4, "32-bit")])
def test_other_sample_widths_are_refused(tmp_path: Path, width: int, sentence: str) -> None:
    with wave.open(str(tmp_path / "in.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(bytes(width * 100))
    with pytest.raises(CallFailed, match=sentence):
        read_wav(tmp_path / "in.wav")


def test_stereo_telephone_wavs_are_made_mono_at_24_khz(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "in.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.full((8000, 2), [0, 16384], dtype="<i2").tobytes())
    samples = read_wav(tmp_path / "in.wav")
    assert len(samples) == RATE
    assert samples[RATE // 2] == pytest.approx(0.25, abs=0.01)


def test_files_that_are_no_wav_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in.wav").write_bytes(b"not a WAV file")
    with pytest.raises(CallFailed, match="cannot be read as a WAV file"):
        read_wav(tmp_path / "in.wav")
