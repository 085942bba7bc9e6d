"""`manage.py build_images`: what Modal is told to build, and what that gives pools; through the real SDK."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from modal_proto import api_pb2

from gpu_workers.images import PACKAGE, REQUIREMENTS, image_name
from provisioning import applying
from provisioning.models import Deployment
from provisioning.pools import create_pool
from tenants.models import AuditEntry, Tenant
from tenants.scope import enter_tenant
from tests.modal_server.pools import look_there, wanted
from tests.modal_server.processes import ModalServer, modal_server

CASCADE = image_name("cascade")


@pytest.fixture
def modal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModalServer]:
    with modal_server(tmp_path / "modal") as server:
        look_there(server, monkeypatch)
        yield server


def build(*workers: str) -> list[dict[str, Any]]:
    output = io.StringIO()
    call_command("build_images", "--worker", *workers, "--json", stdout=output, stderr=io.StringIO())
    documents: list[dict[str, Any]] = json.loads(output.getvalue())
    return documents


def steps(modal: ModalServer) -> list[str]:
    layers = [asked["image"] for asked in modal.asked("ImageGetOrCreate")]
    return [step for layer in layers for step in layer["dockerfile_commands"]]


def published(modal: ModalServer) -> list[str]:
    return [asked["tag"] for asked in modal.asked("ImagePublish")]


def nothing_runs(modal: ModalServer) -> bool:
    return all(app["state"] == api_pb2.APP_STATE_STOPPED for app in modal.running()["apps"])


def test_images_are_built_of_pinned_packages_and_this_code_and_published_once(modal: ModalServer) -> None:
    documents = build("cascade", "stt")
    assert [each["state"] for each in documents] == ["built", "built"]
    assert published(modal) == [CASCADE, image_name("stt")]
    assert nothing_runs(modal)

    files = {
        file["filename"]: base64.b64decode(file["data"])
        for asked in modal.asked("ImageGetOrCreate")
        for file in asked["image"].get("context_files", [])
    }
    assert set(files) == {"/.0_workers.txt", "/.0_engines.txt", "/.1_torch-gpu.txt", "/.2_engines-cuda.txt"}
    assert files["/.0_workers.txt"] == (REQUIREMENTS / "workers.txt").read_bytes()
    installing = [step for step in steps(modal) if "uv pip install" in step]
    assert installing and all("--require-hashes --no-deps" in step for step in installing)
    assert any("gpu_workers.cascade.prepare" in step for step in steps(modal))
    code = modal.asked("MountGetOrCreate")[-1]["files"]
    sent = {file["filename"].removeprefix("/root/gpu_workers/"): file["sha256_hex"] for file in code}
    assert sent == {
        path.relative_to(PACKAGE).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    asked = len(modal.asked("ImageGetOrCreate"))
    assert [each["state"] for each in build("cascade", "stt")] == ["there", "there"]
    assert len(modal.asked("ImageGetOrCreate")) == asked


def test_who_builds_at_a_terminal_sees_the_steps_and_builds_in_the_installations_environment(
    modal: ModalServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MODAL_ENVIRONMENT", "staging")
    call_command("build_images", "--worker", "cascade")
    assert published(modal) == [f"staging/{CASCADE}"]
    assert modal.asked("ImageGetByTag")[0]["tag"] == f"staging/{CASCADE}"
    assert modal.asked("AppCreate")[0]["environment_name"] == "staging"
    told = capfd.readouterr().out
    assert "=> RUN cd /root && python -m gpu_workers.cascade.prepare" in told
    assert f"{CASCADE} is published" in told
    call_command("build_images", "--worker", "cascade")
    assert f"{CASCADE} is there already" in capfd.readouterr().out


def test_a_build_that_fails_publishes_nothing_and_leaves_nothing(modal: ModalServer) -> None:
    modal.change(failing_build="cascade.prepare")
    with pytest.raises(CommandError, match="could not build the image.*cascade.prepare.* exited with 1"):
        build("cascade")
    assert published(modal) == [] and nothing_runs(modal)
    modal.change(failing_build="")
    assert build("cascade")[0]["state"] == "built"


def test_a_pool_whose_image_was_missing_is_deployed_again_once_it_is_built(acme: Tenant, modal: ModalServer) -> None:
    with enter_tenant(acme.id):
        pool = create_pool(actor=None, backend="modal", region="us-east", snapshots=False)
    applying.apply_pool(pool.tenant_id, pool.id)
    first = wanted(pool)
    assert first is not None and first.state == Deployment.State.FAILED
    assert f"{CASCADE} is not in the workspace: `manage.py build_images` publishes it" in first.problem
    assert modal.asked("AppCreate") == [], "nothing was begun"

    build("cascade")
    with enter_tenant(acme.id):
        assert AuditEntry.objects.filter(action="pool.tried_again").count() == 1
    modal.inject("AppPublish", "INVALID_ARGUMENT", "Far enough.")
    applying.apply_pool(pool.tenant_id, pool.id)
    again = wanted(pool)
    assert again is not None and again.pk != first.pk and "Far enough" in again.problem
    assert again.spec["image"] == CASCADE, "the pool names none"


def test_without_credentials_nothing_is_asked(modal: ModalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MODAL_TOKEN_SECRET", "")
    with pytest.raises(CommandError, match="MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"):
        build("cascade")
    assert modal.asked() == []
