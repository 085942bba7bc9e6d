"""The Modal backend through Modal's real SDK, with a stand-in for Modal's servers that runs real containers."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from gpu_workers.protocol import Start
from provisioning.backends.contract import (
    AtCapacity,
    Autoscaling,
    BackendError,
    BackendUnreachable,
    CredentialsRefused,
    DeploymentRefused,
    DeploymentSpec,
    DeploymentUnknown,
    QuotaReached,
    SessionUnavailable,
)
from provisioning.backends.modal.apps import Installation
from provisioning.backends.modal.backend import ModalBackend
from provisioning.backends.modal.clients import Credentials
from tests.gpu_workers.callers import Caller
from tests.gpu_workers.speech import speak
from tests.modal_server.processes import ModalServer, modal_server
from tests.voice.processes import wait_until

VERSION = "9.9"
SPEC = DeploymentSpec(
    environment="test",
    tenant_id="0e2f6e3c-0000-4000-8000-000000000001",
    tenant_slug="acme",
    pool_id="0e2f6e3c-0000-4000-8000-000000000002",
    worker="cascade",
    region="us-east",
    image=f"warmline-cascade:{VERSION}",
    sessions_per_container=2,
    startup_timeout_seconds=60,
    exit_grace_seconds=5,
)
SCALING = Autoscaling(max_containers=2, scaledown_window_seconds=60)


@pytest.fixture(scope="module")
def modal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModalServer]:
    images = [f"warmline-{worker}:{VERSION}" for worker in ("cascade", "moshi")]
    with modal_server(tmp_path_factory.mktemp("modal"), images=images) as server:
        yield server


@pytest.fixture
def _reached(modal: ModalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in modal.environment.items():
        monkeypatch.setenv(name, value)


@pytest_asyncio.fixture
async def backend(modal: ModalServer, _reached: None) -> AsyncIterator[ModalBackend]:
    credentials = Credentials(modal.token_id, modal.token_secret)
    async with ModalBackend(credentials, Installation(), environment="test") as opened:
        yield opened
        for ref in await opened.deployments():
            await opened.stop(ref)


def spec_of(**changes: Any) -> DeploymentSpec:
    """Return a specification of a pool of its own."""
    return dataclasses.replace(SPEC, pool_id=str(uuid.uuid4()), **changes)


# --- what Modal is told ----------------------------------------------------------------------------------------------
async def test_a_deploy_tells_modal_all_that_the_pool_says(backend: ModalBackend, modal: ModalServer) -> None:
    modal.change(weights=["moshika"])
    spec = spec_of(
        worker="moshi",
        image=f"warmline-moshi:{VERSION}",
        region="ca-central",
        checkpoint="moshika",
        gpu=("L4", "A10"),
        cpu_millicores=2500,
        memory_mib=4096,
        sessions_per_container=8,
        startup_timeout_seconds=300,
        exit_grace_seconds=90,
    )
    report = await backend.deploy(spec, Autoscaling(1, 2, 5, 120))
    assert report.autoscaling == Autoscaling(1, 2, 5, 120)

    created = modal.asked("AppCreate")[-1]
    assert created["description"] == spec.name and created["tags"] == spec.tags
    data = modal.asked("FunctionCreate")[-1]["function_data"]
    functions = [each["function"] for each in data["ranked_functions"]]
    assert [function["resources"]["gpu_config"]["gpu_type"] for function in functions] == ["L4", "A10"]
    assert data["autoscaler_settings"] == {
        "min_containers": 1,
        "buffer_containers": 2,
        "max_containers": 5,
        "scaledown_window": 120,
        "target_concurrency_float": 8.0,
    }
    function = functions[0]
    assert (function["module_name"], function["function_name"]) == ("gpu_workers.modal_worker", "worker")
    assert (function["resources"]["milli_cpu"], function["resources"]["memory_mb"]) == (2500, 4096)
    assert function["max_concurrent_inputs"] == 8
    assert function["is_server"] and function["is_sessioned"] and function["checkpointing_enabled"]
    assert data["experimental_options"] == {"enable_gpu_snapshot": "True"}
    assert function["http_config"] == {
        "port": 8000,
        "proxy_regions": ["ca-central"],
        "startup_timeout": 300,
        "exit_grace_period": 90,
    }, "authentication stays on"
    assert function["scheduler_placement"]["regions"] == ["ca"]
    (volume,) = function["volume_mounts"]
    assert (volume["mount_path"], volume["read_only"]) == ("/weights", True)
    secret = modal.asked("SecretGetOrCreate")[-1]["env_dict"]
    assert (secret["WORKER_KIND"], secret["WORKER_CHECKPOINT"], secret["WORKER_MAX_SESSIONS"]) == (
        "moshi",
        "moshika",
        "8",
    )


async def test_the_same_deploy_again_does_nothing(backend: ModalBackend, modal: ModalServer) -> None:
    spec = spec_of()
    await backend.deploy(spec, SCALING)
    before = len(modal.asked("AppCreate")), len(modal.asked("FunctionCreate")), len(modal.asked("AppPublish"))
    await backend.deploy(spec, SCALING)
    assert before == (len(modal.asked("AppCreate")), len(modal.asked("FunctionCreate")), len(modal.asked("AppPublish")))


async def test_limits_are_changed_live(backend: ModalBackend, modal: ModalServer) -> None:
    spec = spec_of()
    await backend.deploy(spec, SCALING)
    published = len(modal.asked("AppPublish"))
    await backend.scale(spec.ref, Autoscaling(0, 1, 7, 30))
    assert (await backend.status(spec.ref)).autoscaling == Autoscaling(0, 1, 7, 30)
    assert len(modal.asked("AppPublish")) == published


async def test_without_snapshots_modal_is_asked_for_none(backend: ModalBackend, modal: ModalServer) -> None:
    await backend.deploy(spec_of(snapshots=False), SCALING)
    function = modal.asked("FunctionCreate")[-1]["function"]
    assert not function.get("checkpointing_enabled") and not function.get("experimental_options")


# --- containers and sessions -----------------------------------------------------------------------------------------
async def test_a_call_is_held_in_a_container_that_the_sdk_runs(backend: ModalBackend, modal: ModalServer) -> None:
    spec = spec_of()
    await backend.deploy(spec, SCALING)
    primed = await backend.prime(spec, timeout_seconds=60)
    assert primed.is_done and primed.boots == ("cold", "restored") and primed.boot_ms[0] > 500

    session = await backend.start_session(spec.ref, timeout_ms=30_000)
    assert modal.token_secret not in repr(session) and session.ref not in repr(session.headers.keys())
    start = Start(call_id="c", agent={"greeting": "Hello from Modal.", "facts": [], "intents": [], "tools": []})
    port = int(session.url.split(":")[2].split("/")[0])
    async with Caller.connected(port, start, headers=session.headers) as caller:
        await caller.be_silent_until(lambda: caller.transcripts("agent"), limit_seconds=20)
        assert caller.transcripts("agent") == ["Hello from Modal."] and caller.loud_audio()
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(lambda: caller.transcripts("caller"), limit_seconds=20)
        (boot,) = caller.metadata("boot")
        (container,) = (await backend.status(spec.ref)).containers
        assert (boot["boot"], boot["container"]) == ("restored", container.name)
        assert container.sessions is None and container.state == "ready"
    await backend.end_session(spec.ref, session.ref)
    await backend.end_session(spec.ref, session.ref)
    assert "Traceback" not in (modal.folder / container.name / "log").read_text()


async def test_the_next_container_is_restored_and_others_are_refused_when_all_are_full(
    backend: ModalBackend, modal: ModalServer
) -> None:
    spec = spec_of(sessions_per_container=1)
    await backend.deploy(spec, SCALING)
    first = await backend.start_session(spec.ref, timeout_ms=30_000)
    second = await backend.start_session(spec.ref, timeout_ms=30_000)
    boots = [await backend.ask_worker(session) for session in (first, second)]
    assert [boot["boot"] for boot in boots] == ["cold", "restored"]
    assert boots[0]["container"] != boots[1]["container"]
    with pytest.raises(AtCapacity):
        await backend.start_session(spec.ref, timeout_ms=5_000)
    await backend.end_session(spec.ref, first.ref)
    await backend.start_session(spec.ref, timeout_ms=5_000)


async def test_a_session_that_takes_too_long_is_given_up(backend: ModalBackend) -> None:
    spec = spec_of()
    await backend.deploy(spec, SCALING)
    with pytest.raises(SessionUnavailable, match="in time"):
        await backend.start_session(spec.ref, timeout_ms=300)


async def test_a_stopped_deployment_leaves_no_container(backend: ModalBackend, modal: ModalServer) -> None:
    spec = spec_of()
    await backend.deploy(spec, Autoscaling(1, 0, 2, 60))
    wait_until(lambda: any(each["app"] == spec.name for each in modal.containers()), within_seconds=60)
    await backend.stop(spec.ref)
    await backend.stop(spec.ref)
    with pytest.raises(DeploymentUnknown):
        await backend.status(spec.ref)
    with pytest.raises(DeploymentUnknown):
        await backend.start_session(spec.ref, timeout_ms=1000)
    wait_until(lambda: not any(each["app"] == spec.name for each in modal.running()["containers"]), within_seconds=30)


async def test_only_what_carries_our_tags_is_ours(backend: ModalBackend, modal: ModalServer, _reached: None) -> None:
    ours, theirs = spec_of(), spec_of(environment="test-of-others")
    await backend.deploy(ours, SCALING)
    await backend.deploy(theirs, SCALING)
    assert await backend.deployments() == [ours.ref]
    await backend.stop(theirs.ref)


# --- failures --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "status", "message", "error", "sentence"),
    [
        (
            "AppCreate",
            "PERMISSION_DENIED",
            "Not for this token.",
            CredentialsRefused,
            "credentials: Not for this token",
        ),
        ("AppCreate", "RESOURCE_EXHAUSTED", "200 deployed Apps at most.", QuotaReached, "at a limit: 200 deployed"),
        ("FunctionCreate", "INVALID_ARGUMENT", "Unknown GPU type H900.", DeploymentRefused, "Unknown GPU type"),
        ("ImageGetByTag", "NOT_FOUND", "Image 'x' not found.", DeploymentRefused, "manage.py build_images"),
        ("AppPublish", "INTERNAL", "", BackendUnreachable, "does not answer"),
    ],
)
async def test_what_modal_refuses_is_told_and_leaves_nothing_behind(
    backend: ModalBackend,
    modal: ModalServer,
    call: str,
    status: str,
    message: str,
    error: type[BackendError],
    sentence: str,
) -> None:
    spec = spec_of()
    modal.inject(call, status, message, times=50)
    try:
        with pytest.raises(error, match=sentence) as raised:
            await backend.deploy(spec, SCALING)
    finally:
        modal.inject(call, times=0)
    assert modal.token_secret not in raised.value.sentence
    assert await backend.deployments() == []
    await backend.deploy(spec, SCALING)
    assert await backend.deployments() == [spec.ref]


async def test_wrong_credentials_are_told(modal: ModalServer, _reached: None) -> None:
    async with ModalBackend(Credentials("ak-wrong", "as-wrong"), Installation(), environment="test") as backend:
        with pytest.raises(CredentialsRefused, match="refuses the credentials"):
            await backend.deployments()
    async with ModalBackend(Credentials("", ""), Installation(), environment="test") as backend:
        with pytest.raises(CredentialsRefused, match="MODAL_TOKEN_ID"):
            await backend.deployments()


# --- the bill --------------------------------------------------------------------------------------------------------
async def test_the_bill_is_read_by_our_tags(backend: ModalBackend, modal: ModalServer) -> None:
    hour = datetime.datetime(2026, 11, 20, 13, tzinfo=datetime.UTC)
    line = {"object_id": "ap-1", "description": SPEC.name, "interval": hour.isoformat(), "cost": "0.123456789"}
    others = {**line, "object_id": "ap-2", "tags": {"team": "research"}}
    modal.change(bill=[{**line, "tags": SPEC.tags}, others])
    (billed,) = await backend.costs(hour - datetime.timedelta(hours=1), hour + datetime.timedelta(hours=2))
    assert (billed.deployment_name, billed.nano_dollars) == (SPEC.name, 123_456_789)
    assert (billed.since, billed.until) == (hour, hour + datetime.timedelta(hours=1))
    assert await backend.costs(hour - datetime.timedelta(hours=3), hour) == []
