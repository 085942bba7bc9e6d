"""The demo that is measured: its tenant, its pool, and calls through its gateway."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from asgiref.sync import sync_to_async
from django.conf import settings
from hibari import Hibari

from agents.models import Agent
from gpu_workers.pcm import Samples
from provisioning.backends import make_backend
from provisioning.backends.contract import BackendError, ContainerState
from provisioning.models import Deployment, Pool
from provisioning.pools import change_pool
from tenants.models import Tenant
from tenants.scope import enter_operator, enter_tenant
from voice.models import Call
from voice.records import call_record, find_call
from voice.tickets import call_address, issue_ticket
from voice.wav_caller import call_with_wavs

POLL_SECONDS = 0.05
PATIENCE_SECONDS = 120
RECORD_POLL_SECONDS = 0.005
QUESTIONS = ("What are your opening hours?", "How much is a haircut?", "Where are you?", "Is there parking?")


@functools.cache
def questions(count: int) -> list[Samples]:
    """Return so many spoken questions, which the demo's agent answers from its facts."""
    voice = Hibari()
    spoken = [np.asarray(voice(question, seed=1), dtype=np.float32) for question in QUESTIONS]
    return [spoken[number % len(spoken)] for number in range(count)]


def demo_tenant() -> Tenant:
    with enter_operator("benchmarks", reason="find the demo"):
        return Tenant.objects.get(slug="demo")


def set_pool(tenant: Tenant, **changes: Any) -> None:
    """Change the tenant's pool, and wait until calls go to what it asks for and nothing else runs."""
    with enter_tenant(tenant.id):
        pool = change_pool(pool=Pool.objects.get(), actor=None, **changes)
        wanted, autoscaling = pool.spec().spec_hash(), pool.autoscaling

    def stands() -> bool:
        with enter_tenant(tenant.id):
            live = list(Deployment.objects.live())
        return [(each.spec_hash, each.state) for each in live] == [(wanted, Deployment.State.READY)] and (
            live[0].autoscaling == {**live[0].autoscaling, "min_containers": autoscaling.min_containers}
        )

    wait_until(stands, "the pool")


def wait_for_containers(tenant: Tenant, count: int) -> None:
    """Wait until so many containers run, and the loaded state that they are restored from is there."""
    with enter_tenant(tenant.id):
        deployment = Deployment.objects.ready().get()

    async def running() -> bool:
        try:
            async with make_backend(deployment.backend) as backend:
                report = await backend.status(deployment.ref)
        except BackendError:
            return False
        alive = [container for container in report.containers if container.state != ContainerState.STOPPED]
        return len(alive) == count and report.snapshot != "making"

    wait_until(lambda: asyncio.run(running()), f"{count} containers")


async def hold_call(tenant: Tenant, utterances: Sequence[Samples]) -> tuple[dict[str, Any], float]:
    """Hold one call, and return its record and the milliseconds after its end at which the record was whole."""
    heard = await call_with_wavs(await sync_to_async(_address)(tenant), utterances, reply_timeout_seconds=30)
    ended = time.monotonic()
    while (record := await sync_to_async(_whole_record)(tenant, heard.call_id)) is None:
        assert time.monotonic() < ended + PATIENCE_SECONDS, "the record was not written"
        await asyncio.sleep(RECORD_POLL_SECONDS)
    return record, 1000 * (time.monotonic() - ended)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {PATIENCE_SECONDS} s"
        time.sleep(POLL_SECONDS)


def _address(tenant: Tenant) -> str:
    with enter_tenant(tenant.id):
        ticket = issue_ticket(Agent.objects.get(slug="demo"), channel=Call.Channel.COMMAND)
    return call_address(settings.GATEWAY_URL, ticket)


def _whole_record(tenant: Tenant, call_id: str | None) -> dict[str, Any] | None:
    """Return the record once the call has ended with its cost."""
    assert call_id is not None
    with enter_tenant(tenant.id):
        call = find_call(call_id)
        return call_record(call) if call.status == Call.Status.ENDED and call.cost_nano_dollars else None
