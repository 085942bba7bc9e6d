"""Calls that are recorded: by the real gateway, with real sound, and what is left when something goes wrong."""

from __future__ import annotations

import asyncio
import datetime
import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sphn
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.files.storage import storages
from django.utils import timezone

from agents.models import Agent
from content import recordings
from content.keys import TenantKeyDeleted, delete_content_key, tenant_key
from content.models import CLAIM, Recording
from gpu_workers import protocol
from gpu_workers.protocol import SAMPLE_RATE_HZ, Kind
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.object_server import ObjectServer
from tests.recording_stores import Files, Objects, Store
from tests.voice import factories
from tests.voice.callers import calling, end_of_call, ready, record_of, ticket_url
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import until
from tests.voice.test_muxing import loud_seconds, silence, stream, tone
from voice import keeping, tasks
from voice.models import Call
from voice.tickets import call_address, issue_ticket
from voice.wav_caller import Heard, call_with_wavs

FOLDER = Path(settings.STORAGES["recordings"]["OPTIONS"]["location"])


def recorded_url(gateway: GatewayProcess, tenant: Tenant, *, prompt: str = "mode: whistle", **recording: Any) -> str:
    with enter_tenant(tenant.id):
        agent = factories.create_agent(prompt=prompt, more={"recording": {"enabled": True, **recording}})
        return call_address(gateway.url, issue_ticket(agent))


def the_recording(tenant: Tenant) -> Recording:
    with enter_tenant(tenant.id):
        return Recording.objects.get()


def make(tenant: Tenant) -> Recording:
    """Make the file of the tenant's only recording, as beat and its tasks would."""
    ((tenant_id, call_id),) = keeping.due_recordings()
    assert tenant_id == tenant.id
    tasks.make_recording(tenant_id=str(tenant_id), call_id=str(call_id))
    return the_recording(tenant)


def played(recording: Recording) -> np.ndarray:
    """Return what one hears of a recording: (caller, agent), 24 kHz."""
    with enter_tenant(recording.tenant_id):
        with recordings.opened_recording(recording) as file:
            sound, _ = sphn.read_opus_bytes(file.read())
    return sound[:, ::2]


def paths_of(store: Store, recording: Recording) -> list[str]:
    folder = recordings.folder_of(recording.tenant_id, recording.call_id)
    return [f"{folder}/{name}" for name in store.names(folder)]


async def whistle_and_answer(url: str) -> Heard:
    """Call a whistler, whistle once and hear it whistle back."""
    return await call_with_wavs(url, [np.concatenate([tone(0.6, 300), silence(0.2)])], reply_timeout_seconds=10)


async def test_a_call_is_kept_in_both_directions_and_nothing_of_it_can_be_read_without_the_key(
    recording_gateway: GatewayProcess, acme: Tenant, place: Any, store: Store
) -> None:
    heard = await whistle_and_answer(await sync_to_async(recorded_url)(recording_gateway, acme))
    assert next(each for each in heard.messages if each["type"] == "call")["recorded"] is True
    await end_of_call(acme)
    await until(recording_gateway.is_free, what="the end of all calls")
    parts = paths_of(store, await sync_to_async(the_recording)(acme))
    assert parts and not any(b"OggS" in content or b"Opus" in content for content in map(store.read, parts))
    if isinstance(store, Files):
        assert all((store.folder / part).stat().st_mode & 0o777 == 0o600 for part in parts)

    recording = await sync_to_async(make)(acme)
    assert (recording.state, recording.problem) == ("ready", "")
    assert paths_of(store, recording) == [recording.file]
    left, right = await sync_to_async(played)(recording)
    greeting, reply = loud_seconds(right)
    ((began, ended),) = loud_seconds(left)
    assert ended - began == pytest.approx(0.6, abs=0.1)
    # The caller waits for the greeting to end, and the whistler for the caller to be quiet.
    assert greeting[1] < began and ended + 0.3 < reply[0]
    assert reply[1] - reply[0] == pytest.approx(0.64, abs=0.1)
    # When each was heard is what the caller's own clock says.
    at_caller = [begin for begin, _ in loud_seconds(heard.recording())]
    assert reply[0] - greeting[0] == pytest.approx(at_caller[1] - at_caller[0], abs=0.15)
    record = await sync_to_async(record_of)(acme)
    assert record["recording"]["state"] == "ready"
    first_audio_s = (record["first_audio_ms"] - record["recording"]["begins_at_ms"]) / 1000
    assert greeting[0] == pytest.approx(first_audio_s, abs=0.15)


async def test_an_agent_that_does_not_record_leaves_nothing(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        assert await caller.next() == protocol.handshake()
        assert (await caller.next_metadata("call"))["recorded"] is False
        await caller.ask()
    await end_of_call(acme)
    assert (await sync_to_async(record_of)(acme))["recording"] is None


async def test_who_records_says_so_before_the_greeting(gateway: GatewayProcess, acme: Tenant, tmp_path: Path) -> None:
    from tests.voice.processes import scripted_worker

    with scripted_worker(tmp_path) as (port, log, _):

        def prepare() -> str:
            with enter_tenant(acme.id):
                factories.create_deployment(port=port)
            return recorded_url(gateway, acme, prompt="", announcement="{business} records this call.")

        async with calling(await sync_to_async(prepare)()) as caller:
            await ready(caller)
        started = next(json.loads(line) for line in log.read_text().splitlines() if '"start"' in line)
    assert started["document"]["agent"]["greeting"] == "Acme records this call. Hello."
    await end_of_call(acme)


async def test_a_gateway_that_is_killed_leaves_what_was_recorded_so_far(
    own_gateway: Any, acme: Tenant, place: Any, store: Store
) -> None:
    gateway = await asyncio.to_thread(own_gateway, GATEWAY_RECORDING_PART_SECONDS="0.3", **store.environment)
    url = await sync_to_async(recorded_url)(gateway, acme)
    async with calling(url) as caller:
        await ready(caller)
        await caller.next_of(Kind.AUDIO)
        writer, said = sphn.OpusStreamWriter(SAMPLE_RATE_HZ), tone(2.0, 300)
        due = time.monotonic()
        for at in range(0, len(said), 960):
            if page := writer.append_pcm(said[at : at + 960]):
                await caller.connection.send(protocol.audio(page))
            due += 0.04  # as a microphone's clock, which waits for nobody
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        gateway.process.child.send_signal(signal.SIGKILL)
        await caller.closed_with()
    # Half a part, as a disk has it that the power went from.
    last = paths_of(store, await sync_to_async(the_recording)(acme))[-1]
    store.write(f"{last.rpartition('/')[0]}/0000009999-half.part", store.read(last)[:-20])
    assert await tasks.sweep(window_seconds=0.0) == 1
    await sync_to_async(age_call)(acme, seconds=61)
    recording = await sync_to_async(make)(acme)
    left, right = await sync_to_async(played)(recording)
    ((began, ended),) = loud_seconds(left)
    assert 1.2 < ended - began < 2.15
    assert len(loud_seconds(right)) == 1


def age_call(tenant: Tenant, *, seconds: int) -> None:
    with enter_tenant(tenant.id):
        assert not keeping.due_recordings()  # its gateway may only be slow
        Call.objects.update(ended_at=timezone.now() - datetime.timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("storage", "problem"),
    [
        ("Full", "The storage took no more: the rest of the call was not recorded."),
        ("Slow", "The storage took too long: the rest of the call was not recorded."),
    ],
)
async def test_a_storage_that_fails_ends_the_recording_and_not_the_call(
    own_gateway: Any, acme: Tenant, place: Any, storage: str, problem: str
) -> None:
    gateway = await asyncio.to_thread(
        own_gateway,
        RECORDINGS_STORAGE=f"tests.voice.storages.{storage}",
        RECORDINGS_STORAGE_OPTIONS=json.dumps({"location": str(FOLDER)}),
        GATEWAY_RECORDING_PART_SECONDS="0.2",
        GATEWAY_RECORDING_WRITE_SECONDS="1.5",
    )
    async with calling(await sync_to_async(recorded_url)(gateway, acme, prompt="")) as caller:
        await ready(caller)
        asked = 0
        while "cut_short_total 1.0" not in (await asyncio.to_thread(gateway.get, "/metrics"))[1]:
            await caller.ask()
            asked += 1
            await asyncio.sleep(0.1)
            assert asked < 60
        stats = await caller.ask()
        assert stats["turn_ms"] < 1_000  # nobody waits for a storage
    call = await end_of_call(acme)
    assert call.end_reason == "caller_hung_up"
    await until(lambda: '"calls": 0' in gateway.get("/healthz")[1], what="the end of all calls")
    assert (await sync_to_async(the_recording)(acme)).problem == problem


@pytest.mark.parametrize(
    ("is_frozen", "problem"),
    [
        (True, "The storage took too long: the rest of the call was not recorded."),
        (False, "The storage took no more: the rest of the call was not recorded."),
    ],
    ids=["frozen", "gone"],
)
async def test_a_store_that_goes_away_costs_calls_nothing_but_their_recordings(
    own_gateway: Any, acme: Tenant, place: Any, tmp_path: Path, is_frozen: bool, problem: str
) -> None:
    server = await asyncio.to_thread(ObjectServer, tmp_path)
    options = {**server.options, "read_seconds": 2}
    gateway = await asyncio.to_thread(
        own_gateway,
        **Objects(server).environment | {"RECORDINGS_STORAGE_OPTIONS": json.dumps(options)},
        GATEWAY_RECORDING_PART_SECONDS="0.2",
        GATEWAY_RECORDING_WRITE_SECONDS="1",
    )
    try:
        async with calling(await sync_to_async(recorded_url)(gateway, acme, prompt="")) as caller:
            await ready(caller)
            await caller.ask()
            (server.freeze if is_frozen else server.stop)()
            longest = 0.0
            for _ in range(60):
                longest = max(longest, (await caller.ask())["turn_ms"])
                if "cut_short_total 1.0" in (await asyncio.to_thread(gateway.get, "/metrics"))[1]:
                    break
                await asyncio.sleep(0.1)
            else:
                raise AssertionError("the recording goes on")
            longest = max(longest, (await caller.ask())["turn_ms"])
            assert longest < 1_000
            # Who comes meanwhile is served as well.
            async with calling(await sync_to_async(another_url)(gateway, acme)) as other:
                await ready(other)
                assert (await other.ask())["turn_ms"] < 1_000
        await until(lambda: '"calls": 0' in gateway.get("/healthz")[1], what="the end of all calls")

        def outcome() -> set[tuple[str, str]]:
            with enter_tenant(acme.id):
                assert set(Call.objects.values_list("end_reason", flat=True)) == {"caller_hung_up"}
                return set(Recording.objects.values_list("problem", "state"))

        assert (problem, "recording") in await sync_to_async(outcome)()
        assert await asyncio.to_thread(gateway.process.stop, signal.SIGTERM, 20) == -signal.SIGTERM
        assert server.credentials["AWS_SECRET_ACCESS_KEY"] not in gateway.log
    finally:
        await asyncio.to_thread(server.stop)


def another_url(gateway: GatewayProcess, tenant: Tenant) -> str:
    with enter_tenant(tenant.id):
        return call_address(gateway.url, issue_ticket(Agent.objects.get()))


async def test_a_caller_who_pours_sound_in_ends_the_recording_and_fills_no_disk(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    async with calling(await sync_to_async(recorded_url)(gateway, acme, prompt="")) as caller:
        await ready(caller)
        for _ in range(40):
            await caller.connection.send(protocol.audio(bytes(60_000)))
        await caller.hang_up()
    await end_of_call(acme)
    await until(lambda: '"calls": 0' in gateway.get("/healthz")[1], what="the end of all calls")
    recording = await sync_to_async(the_recording)(acme)
    assert recording.problem.startswith("More came than can be recorded")
    store = Files(settings.STORAGES["recordings"])
    assert sum(len(store.read(path)) for path in paths_of(store, recording)) < 1_000_000
    assert (await sync_to_async(make)(acme)).state == "failed"  # none of it was sound


# --- how long they are kept ------------------------------------------------------------------------------------------
def kept(tenant: Tenant, *, days_ago: float, keep_days: int | None = None) -> Recording:
    """Make a recording of a call that ended so long ago, with a file."""
    with enter_tenant(tenant.id):
        agent = factories.create_agent(slug=f"desk-{Recording.objects.count()}")
        call = factories.create_call(agent=agent, status="ended", ended_at=timezone.now())
        recording = Recording.objects.create(
            call_id=call.pk,
            started_at=timezone.now() - datetime.timedelta(days=days_ago),
            stopped_at=timezone.now(),
            keep_days=keep_days,
        )
        recordings.keep_file(recording, b"sound" * 1000, duration_ms=1000, begins_at_ms=0)
        return recording


def state_of(recording: Recording) -> str:
    with enter_tenant(recording.tenant_id):
        return Recording.objects.get(pk=recording.pk).state


def test_recordings_go_when_the_plan_or_their_agent_says(acme: Tenant, rival: Tenant, store: Store) -> None:
    days = 90  # of the plan that tests are on
    young, old = kept(acme, days_ago=days - 1), kept(acme, days_ago=days + 1)
    short, never_longer = kept(acme, days_ago=8, keep_days=7), kept(rival, days_ago=days + 1, keep_days=3650)
    assert tasks.delete_recordings() == 3
    assert [state_of(each) for each in (young, old, short, never_longer)] == ["ready", "deleted", "deleted", "deleted"]
    assert paths_of(store, young) == [young.file]
    assert not any(paths_of(store, each) for each in (old, short, never_longer))
    if isinstance(store, Files):
        assert not (store.folder / recordings.folder_of(old.tenant_id, old.call_id)).exists()
    assert tasks.delete_recordings() == 0


def test_recordings_go_with_the_tenants_key(acme: Tenant, rival: Tenant, store: Store) -> None:
    mine, theirs = kept(acme, days_ago=1), kept(rival, days_ago=1)
    with enter_tenant(acme.id):
        delete_content_key()
        with pytest.raises(TenantKeyDeleted), recordings.opened_recording(mine):
            pass
    assert tasks.delete_recordings() == 1
    assert not paths_of(store, mine) and paths_of(store, theirs)


def test_a_recording_of_which_no_file_can_be_made_is_given_up(acme: Tenant) -> None:
    with enter_tenant(acme.id):
        call = factories.create_call(agent=factories.create_agent(), status="ended", ended_at=timezone.now())
        Recording.objects.create(call_id=call.pk, stopped_at=timezone.now(), attempts=recordings.MOST_ATTEMPTS)
    assert make(acme).state == "failed"
    assert keeping.due_recordings() == []


def test_a_store_that_is_away_when_the_file_is_to_be_made_loses_nothing(
    acme: Tenant, objects: Objects, keep_recordings_in: Any
) -> None:
    keep_recordings_in({**objects.settings, "OPTIONS": {**objects.server.options, "read_seconds": 1}})
    with enter_tenant(acme.id):
        call = factories.create_call(agent=factories.create_agent(), status="ended", ended_at=timezone.now())
        Recording.objects.create(call_id=call.pk, stopped_at=timezone.now())
        key = tenant_key(acme.id)
    recordings.write_part(
        key=key, tenant_id=acme.id, call_id=call.pk, entries=stream(recordings.AGENT, tone(1.0), begins_ms=200)
    )
    for _ in range(recordings.MOST_ATTEMPTS + 1):
        objects.server.freeze()
        try:
            recording = make(acme)
        finally:
            objects.server.thaw()
        assert (recording.state, recording.attempts) == ("making", 0)
        assert keeping.due_recordings() == []  # not at once again
        with enter_tenant(acme.id):
            Recording.objects.update(claimed_at=timezone.now() - CLAIM)
    recording = make(acme)
    assert (recording.state, recording.problem) == ("ready", "")
    assert len(loud_seconds(played(recording)[1])) == 1


def test_two_who_make_the_same_file_do_it_once(acme: Tenant) -> None:
    with enter_tenant(acme.id):
        call = factories.create_call(agent=factories.create_agent(), status="ended", ended_at=timezone.now())
        Recording.objects.create(call_id=call.pk, stopped_at=timezone.now())
        assert recordings.claim_recording(call.pk) is not None
        assert recordings.claim_recording(call.pk) is None
    assert keeping.due_recordings() == []


def test_the_storage_of_recordings_is_a_setting() -> None:
    assert storages["recordings"] is not storages["default"]
    assert str(FOLDER) not in str(settings.STATIC_ROOT)
