"""An agent on managed services, called through the gateway: the keys reach the worker alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from content.models import ServiceKey
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.gpu_workers.speech import speak
from tests.gpu_workers.worker_processes import process
from tests.providers import KEY
from tests.voice.processes import running
from tests.voice.spoken_calls import GATEWAY_PATIENCE, call, publish_with, roles_of, salon
from tests.voice.supervised import supervisor_with_a_pool
from tests.web.web_process import WebProcess
from voice.wav_caller import write_wav


def openai_session(asked: Path) -> dict[str, Any]:
    events = [json.loads(line) for line in asked.read_text().splitlines()]
    return next(event for event in events if "instructions" in event)


def test_a_tenants_key_reaches_the_worker_and_nobody_else(
    own_gateway: Any, acme: Tenant, rival: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wav(tmp_path / "question.wav", speak("What are your opening hours?"))
    agent = salon(acme)
    asked = tmp_path / "asked.log"
    with process("tests.providers", "--log", str(asked), log=tmp_path / "providers.log") as providers:
        assert providers.stdout is not None
        address = f"http://127.0.0.1:{int(providers.stdout.readline())}"
        monkeypatch.setenv("WORKER_ELEVENLABS_URL", address)
        monkeypatch.setenv("WORKER_DEEPGRAM_URL", address)
        monkeypatch.setenv("WORKER_OPENAI_REALTIME_URL", f"{address.replace('http', 'ws')}/v1/realtime")
        with supervisor_with_a_pool(acme, tmp_path, monkeypatch) as reached:
            web = WebProcess(tmp_path, gateway_url="ws://127.0.0.1:1")
            with running(web.process):
                gateway = own_gateway(**reached, INTERNAL_URL=web.url, **GATEWAY_PATIENCE)
                publish_with(acme, agent, tts="elevenlabs", voice="voice-7")

                with enter_tenant(rival.id):  # whose key is not acme's
                    ServiceKey.objects.create(provider="elevenlabs", secret=KEY, last_four=KEY[-4:])
                own = call(gateway, tmp_path)
                assert "opening hours" in own["turns"][1]["caller"].lower()
                assert not asked.exists()

                with enter_tenant(acme.id):
                    ServiceKey.objects.create(provider="elevenlabs", secret=KEY, last_four=KEY[-4:])
                spoken = call(gateway, tmp_path)
                assert spoken["turns"][1]["agent"] == own["turns"][1]["agent"]
                assert {json.loads(line)["voice"] for line in asked.read_text().splitlines()} == {"voice-7"}
                assert roles_of(acme, spoken) == {"engine"}
                assert KEY not in json.dumps(spoken)

                publish_with(acme, agent, stt="deepgram")
                with enter_tenant(acme.id):
                    ServiceKey.objects.create(provider="deepgram", secret=KEY, last_four=KEY[-4:])
                heard = call(gateway, tmp_path)
                assert heard["turns"][1]["caller"] == "When do you open, 1?"

                wish = 'CALL check_availability {"service": "haircut"}'
                publish_with(acme, agent, engine="openai_realtime", voice="marin", prompt=wish)
                with enter_tenant(acme.id):
                    ServiceKey.objects.create(provider="openai", secret=KEY, last_four=KEY[-4:])
                held = call(gateway, tmp_path)
                assert held["engine"] == "openai_realtime" and roles_of(acme, held) == {"engine"}
                assert held["turns"][0]["agent"].startswith("Hello, this is")
                assert "opening hours" in held["turns"][1]["caller"].lower()
                assert held["turns"][1]["agent"].startswith("The tool says")
                assert [tool["name"] for tool in held["tools"]] == ["check_availability"]
                assert {"voice": "marin", "model": "gpt-realtime-2.1"}.items() <= openai_session(asked).items()
        for log in tmp_path.rglob("*.log"):
            assert KEY not in log.read_text(errors="replace"), log
