"""An agent that thinks with a language model of another pool, called through the gateway; a stand-in is the model."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.catalog import templates_by_slug
from agents.versions import create_agent_from_template
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.gpu_workers.speech import speak
from tests.voice.processes import running
from tests.voice.spoken_calls import call, publish_with, roles_of
from tests.voice.supervised import supervisor_with_a_pool
from tests.web.web_process import WebProcess
from voice.wav_caller import write_wav

STAND_IN = [sys.executable, "-m", "tests.gpu_workers.llm.model_server"]


def test_an_agent_thinks_with_the_model_of_another_pool(
    own_gateway: Any, acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = f"{shlex.join(STAND_IN)} {{model}} --port {{port}} --name {{name}} --log {tmp_path / 'model.log'}"
    monkeypatch.setenv("LLM_SERVER_COMMAND", command)
    write_wav(tmp_path / "question.wav", speak("Could you tell me about the weather in Paris?"))
    with enter_tenant(acme.id):
        agent = create_agent_from_template(template=templates_by_slug()["salon-front-desk"], actor=None, slug="salon")
    with supervisor_with_a_pool(acme, tmp_path, monkeypatch, llm=tmp_path) as reached:
        web = WebProcess(tmp_path, gateway_url="ws://127.0.0.1:1")
        with running(web.process):
            gateway = own_gateway(**reached, INTERNAL_URL=web.url, GATEWAY_HANDSHAKE_SECONDS="20")

            publish_with(acme, agent, llm={"enabled": True, "source": "pool"})
            thought = call(gateway, tmp_path)
            assert "You said:" in thought["turns"][1]["agent"]
            assert "weather in paris" in thought["turns"][1]["agent"].lower()
            assert roles_of(acme, thought) == {"engine", "llm"}

            again = call(gateway, tmp_path)  # the place of the call before is free
            assert "You said:" in again["turns"][1]["agent"]

            publish_with(acme, agent, llm={"enabled": False, "source": "pool"})
            followed = call(gateway, tmp_path)
            assert "You said:" not in followed["turns"][1]["agent"]
            assert roles_of(acme, followed) == {"engine"}
