"""One agent on each engine that runs without a GPU, switched on its page's way, called through the gateway.

All parts are real; moshi, stt and tts have small random weights, whose sound and words mean nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.catalog import templates_by_slug
from agents.models import Agent
from agents.versions import create_agent_from_template, publish, save_draft
from gpu_workers.moshi import tiny as tiny_moshi
from gpu_workers.stt import tiny as tiny_stt
from gpu_workers.tts import tiny as tiny_tts
from provisioning.models import CostEntry
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.gpu_workers.speech import speak
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import ROOT, running
from tests.voice.supervised import supervisor_with_a_pool
from tests.web.web_process import WebProcess
from voice.models import Session
from voice.wav_caller import read_wav, write_wav


def publish_with(tenant: Tenant, agent: Agent, **changes: Any) -> None:
    with enter_tenant(tenant.id):
        agent.refresh_from_db()
        assert save_draft(agent=agent, draft={**agent.draft, **changes}, actor=None) == []
        publish(agent=agent, actor=None)


def call(gateway: GatewayProcess, folder: Path) -> dict[str, Any]:
    """Call the agent, and return the record; its answer can be heard."""
    arguments = ["--tenant", "acme", "--agent", "salon", "--wav", str(folder / "question.wav"), "--json"]
    arguments += ["--gateway", gateway.url, "--out", str(folder / "reply.wav")]
    done = subprocess.run(
        [sys.executable, "manage.py", "call", *arguments],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + gateway.log
    assert np.abs(read_wav(folder / "reply.wav")).max() > 0.05
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def roles_of(tenant: Tenant, record: dict[str, Any]) -> set[str]:
    with enter_tenant(tenant.id):
        sessions = list(Session.objects.filter(call_id=record["id"]))
        assert all(session.boot == "warm" and session.active_ms > 0 for session in sessions)
        entries = CostEntry.objects.filter(call_id=record["id"], part="active")
        assert entries.count() == len(sessions)
        assert sum(entry.nano_dollars for entry in entries) == record["cost"]["nano_dollars"] > 0
        return {session.role for session in sessions}


def test_an_agent_talks_on_every_engine_that_it_is_switched_to(
    own_gateway: Any, acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wav(tmp_path / "question.wav", speak("What are your opening hours?"))
    with enter_tenant(acme.id):
        agent = create_agent_from_template(template=templates_by_slug()["salon-front-desk"], actor=None, slug="salon")
    weights = {
        "moshi": tiny_moshi.write_checkpoint(tmp_path / "moshi"),
        "stt": tiny_stt.write_checkpoint(tmp_path / "stt"),
        "tts": tiny_tts.write_checkpoint(tmp_path / "tts"),
    }
    with supervisor_with_a_pool(acme, tmp_path, monkeypatch, **weights) as reached:
        web = WebProcess(tmp_path, gateway_url="ws://127.0.0.1:1")
        with running(web.process):
            gateway = own_gateway(**reached, INTERNAL_URL=web.url, GATEWAY_HANDSHAKE_SECONDS="20")

            publish_with(acme, agent, engine="cascade")
            own = call(gateway, tmp_path)
            assert "opening hours" in own["turns"][1]["caller"].lower()
            assert roles_of(acme, own) == {"engine"}

            publish_with(acme, agent, engine="moshi")
            moshi = call(gateway, tmp_path)
            assert moshi["turns"][0]["agent"]
            assert roles_of(acme, moshi) == {"engine"}

            publish_with(acme, agent, engine="cascade", stt="own", tts="kyutai")
            spoken = call(gateway, tmp_path)
            assert "opening hours" in spoken["turns"][1]["caller"].lower()
            assert roles_of(acme, spoken) == {"engine", "tts"}

            publish_with(acme, agent, stt="kyutai", tts="own")
            heard = call(gateway, tmp_path)
            assert heard["turns"][0]["agent"] == own["turns"][0]["agent"]
            assert roles_of(acme, heard) == {"engine", "stt"}
