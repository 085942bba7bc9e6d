"""One agent on each engine that runs without a GPU, switched on its page's way, called through the gateway.

All parts are real; moshi, stt and tts have small random weights, whose sound and words mean nothing. The calls go on at
the same time: each keeps the version that it began with.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from gpu_workers.moshi import tiny as tiny_moshi
from gpu_workers.stt import tiny as tiny_stt
from gpu_workers.tts import tiny as tiny_tts
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.gpu_workers.speech import speak
from tests.voice.processes import running, wait_until
from tests.voice.spoken_calls import GATEWAY_PATIENCE, address_of, publish_with, record_of, roles_of, salon
from tests.voice.supervised import supervisor_with_a_pool
from tests.web.web_process import WebProcess
from voice.models import Call
from voice.wav_caller import Heard, call_with_wavs

VERSIONS: dict[str, dict[str, Any]] = {
    "own": {"engine": "cascade"},
    "moshi": {"engine": "moshi"},
    "spoken": {"engine": "cascade", "tts": "kyutai"},
    "heard": {"engine": "cascade", "stt": "kyutai", "tts": "own"},
}


def test_an_agent_talks_on_every_engine_that_it_is_switched_to(
    own_gateway: Any, acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, question = salon(acme), speak("What are your opening hours?")
    weights = {
        "moshi": tiny_moshi.write_checkpoint(tmp_path / "moshi"),
        "stt": tiny_stt.write_checkpoint(tmp_path / "stt"),
        "tts": tiny_tts.write_checkpoint(tmp_path / "tts"),
    }
    with supervisor_with_a_pool(acme, tmp_path, monkeypatch, **weights) as reached:
        web = WebProcess(tmp_path, gateway_url="ws://127.0.0.1:1")
        with running(web.process):
            gateway = own_gateway(**reached, INTERNAL_URL=web.url, **GATEWAY_PATIENCE)

            def switch(changes: dict[str, Any]) -> str:
                publish_with(acme, agent, **changes)
                return address_of(gateway, acme, agent)

            def is_admitted(count: int) -> bool:
                with enter_tenant(acme.id):
                    return Call.objects.count() == count

            async def hold_all() -> list[Heard]:
                calls = []
                for changes in VERSIONS.values():
                    address = await sync_to_async(switch)(changes)
                    calls.append(asyncio.create_task(call_with_wavs(address, [question], longest_reply_seconds=5)))
                    await sync_to_async(wait_until)(
                        lambda: is_admitted(len(calls)), within_seconds=30, what="the admission of a call"
                    )
                return await asyncio.gather(*calls)

            heard = dict(zip(VERSIONS, async_to_sync(hold_all)(), strict=True))
            records = {name: record_of(acme, each) for name, each in heard.items()}
    assert [records[name]["version"] for name in VERSIONS] == [1, 2, 3, 4]
    assert {name: roles_of(acme, record) for name, record in records.items()} == {
        "own": {"engine"},
        "moshi": {"engine"},
        "spoken": {"engine", "tts"},
        "heard": {"engine", "stt"},
    }
    assert "opening hours" in records["own"]["turns"][1]["caller"].lower()
    assert records["moshi"]["turns"][0]["agent"]
    assert "opening hours" in records["spoken"]["turns"][1]["caller"].lower()
    assert records["heard"]["turns"][0]["agent"] == records["own"]["turns"][0]["agent"]
