"""`manage.py fetch_weights`: from the model hub or a folder onto Modal's volume, and from there into workers."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from modal_proto import api_pb2

from gpu_workers.images import image_name
from gpu_workers.moshi import tiny as tiny_moshi
from gpu_workers.tts import tiny as tiny_tts
from gpu_workers.weights import DEFAULT_CHECKPOINTS, LIST_NAME, VOICES
from provisioning import applying
from provisioning.models import Deployment
from provisioning.pools import create_pool
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.modal_server.pools import become_ready, look_there, wanted
from tests.modal_server.processes import ModalServer, modal_server
from tests.model_hub import REVISION, ModelHub, model_hub

MOSHI, TTS = DEFAULT_CHECKPOINTS["moshi"], DEFAULT_CHECKPOINTS["tts"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Moshi, with what its repository has beside it."""
    folder = tiny_moshi.write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "moshi")
    (folder / "README.md").write_text("About it.")
    return folder


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModalServer, ModelHub]]:
    images = [image_name(worker) for worker in ("moshi", "tts")]
    with modal_server(tmp_path_factory.mktemp("modal"), images=images) as server, model_hub() as hub:
        yield server, hub


@pytest.fixture
def modal(stand_ins: tuple[ModalServer, ModelHub], monkeypatch: pytest.MonkeyPatch) -> ModalServer:
    server, hub = stand_ins
    look_there(server, monkeypatch)
    monkeypatch.setattr(settings, "HF_ENDPOINT", hub.url)
    return server


@pytest.fixture
def hub(stand_ins: tuple[ModalServer, ModelHub]) -> Iterator[ModelHub]:
    hub = stand_ins[1]
    yield hub
    hub.folders.clear()
    hub.tokens.clear()
    hub.asked.clear()
    hub.broken.clear()


def fetch(*arguments: Any) -> list[dict[str, str]]:
    output = io.StringIO()
    call_command("fetch_weights", *map(str, arguments), "--json", stdout=output, stderr=io.StringIO())
    documents: list[dict[str, str]] = json.loads(output.getvalue())
    return documents


def volume(modal: ModalServer) -> Path:
    (folder,) = (modal.folder / "volumes").iterdir()
    return folder


def listed(modal: ModalServer, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((volume(modal) / name / LIST_NAME).read_text())
    return document


def gets(hub: ModelHub) -> list[str]:
    return [asked.rpartition("/")[2] for asked in hub.asked if asked.startswith("GET") and "/resolve/" in asked]


def test_a_pool_that_names_no_weights_runs_those_that_were_fetched_from_the_hub(
    acme: Tenant, modal: ModalServer, hub: ModelHub, checkpoint: Path
) -> None:
    hub.add(MOSHI, checkpoint)
    with enter_tenant(acme.id):
        pool = create_pool(
            actor=None, worker="moshi", backend="modal", region="us-east", snapshots=False, sessions_per_container=1
        )
    assert (pool.gpu, pool.memory_mib, pool.startup_timeout_seconds) == ("L4, A10", 24_576, 600)
    applying.apply_pool(pool.tenant_id, pool.id)
    failed = wanted(pool)
    assert failed is not None and failed.state == Deployment.State.FAILED
    assert failed.problem == (
        f"The weights {MOSHI} are not on the volume: `manage.py fetch_weights --worker moshi` stores them."
    )

    assert fetch("--worker", "moshi") == [{"worker": "moshi", "checkpoint": MOSHI, "state": "stored"}]
    document = listed(modal, MOSHI)
    assert document["sources"] == [f"{MOSHI}@{REVISION}"]
    assert set(document["files"]) == {path.name for path in checkpoint.iterdir()} - {"README.md"}
    function = modal.asked("FunctionCreate")[-1]["function"]
    assert (function["module_name"], function["function_name"]) == ("gpu_workers.weights", "download")
    assert function["image_id"] and not function["volume_mounts"][0].get("read_only")
    assert all(app["state"] == api_pb2.APP_STATE_STOPPED for app in modal.running()["apps"])
    assert fetch("--worker", "moshi")[0]["state"] == "there"

    deployment = become_ready(pool)
    assert deployment.spec["checkpoint"] == MOSHI and deployment.priming["boots"] == ["cold"]
    server = modal.asked("FunctionCreate")[-1]["function_data"]["ranked_functions"][0]["function"]
    assert (server["volume_mounts"][0]["mount_path"], server["volume_mounts"][0]["read_only"]) == ("/weights", True)


def test_gated_weights_are_fetched_with_a_token_that_no_worker_is_told(
    modal: ModalServer, hub: ModelHub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("nvidia/personaplex", checkpoint, token="hf_secret")
    arguments = ("--worker", "moshi", "--checkpoint", "nvidia/personaplex")
    with pytest.raises(CommandError, match="accepted its terms.*HF_TOKEN"):
        fetch(*arguments)
    assert not (volume(modal) / "nvidia").exists()
    monkeypatch.setattr(settings, "HF_TOKEN", "hf_secret")
    assert fetch(*arguments)[0]["state"] == "stored"
    told = [asked["env_dict"] for asked in modal.asked("SecretGetOrCreate") if "HF_TOKEN" in asked["env_dict"]]
    assert [each["HF_TOKEN"] for each in told] == ["hf_secret"] and "WORKER_KIND" not in told[0]
    with pytest.raises(CommandError, match="knows no nvidia/nothing"):
        fetch("--worker", "moshi", "--checkpoint", "nvidia/nothing")


def test_a_repository_of_moshis_first_form_is_given_the_configuration_that_it_lacks(
    modal: ModalServer, hub: ModelHub, checkpoint: Path, tmp_path: Path
) -> None:
    old = shutil.copytree(checkpoint, tmp_path / "old")
    (old / "config.json").unlink()
    hub.add("kyutai/first", old)
    fetch("--worker", "moshi", "--checkpoint", "kyutai/first")
    config = json.loads((volume(modal) / "kyutai/first" / "config.json").read_text())
    assert (config["dim"], config["num_layers"], config["model_type"]) == (4096, 32, "moshi")
    assert "config.json" in listed(modal, "kyutai/first")["files"]


def test_a_download_that_broke_off_is_gone_on_with_and_counts_for_nothing_until_then(
    modal: ModalServer, hub: ModelHub, checkpoint: Path
) -> None:
    hub.add("kyutai/broken", checkpoint)
    hub.broken.add("model.safetensors")
    arguments = ("--worker", "moshi", "--checkpoint", "kyutai/broken")
    with pytest.raises(CommandError, match="did not give kyutai/broken"):
        fetch(*arguments)
    assert not (volume(modal) / "kyutai/broken" / LIST_NAME).exists()
    here = {path.name for path in (volume(modal) / "kyutai/broken").iterdir() if path.is_file()}
    assert here, "some files came"
    hub.broken.clear()
    hub.asked.clear()
    assert fetch(*arguments)[0]["state"] == "stored"
    assert here.isdisjoint(gets(hub)) and "model.safetensors" in gets(hub)


def test_a_voice_comes_with_its_model(modal: ModalServer, hub: ModelHub, tmp_path: Path) -> None:
    model = tiny_tts.write_checkpoint(tmp_path / "tts")
    voices = tmp_path / "voices" / "vctk"
    voices.mkdir(parents=True)
    for path in (model / "voices").iterdir():
        path.rename(voices / path.name)
    (voices / "calm.of-another@1.safetensors").write_bytes(b"?")
    (voices / "calm.wav").write_bytes(b"?")
    (model / "voices").rmdir()
    hub.add(TTS, model)
    hub.add(VOICES["tts"][0], tmp_path / "voices")
    fetch("--worker", "tts")
    found = sorted(name for name in listed(modal, TTS)["files"] if name.startswith("voices/"))
    signature = f"{tiny_tts.SIGNATURE}@{tiny_tts.EPOCH}"
    assert found == [f"voices/vctk/{name}.{signature}.safetensors" for name in ("bright", "calm")]
    assert listed(modal, TTS)["sources"] == [f"{TTS}@{REVISION}", f"{VOICES['tts'][0]}@{REVISION}"]


def test_a_folder_of_this_machine_is_uploaded_whole(modal: ModalServer, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="which worker"):
        fetch("--from", checkpoint)
    with pytest.raises(CommandError, match="names no checkpoint"):
        fetch("--worker", "moshi", "--from", checkpoint, "--checkpoint", "../secrets")
    with pytest.raises(CommandError, match="holds no files"):
        fetch("--worker", "moshi", "--from", tmp_path, "--checkpoint", "own/empty")
    fetch("--worker", "moshi", "--from", checkpoint, "--checkpoint", "own/moshi")
    sent = {
        file["filename"]: file["sha256_hex"] for asked in modal.asked("VolumePutFiles")[-1:] for file in asked["files"]
    }
    for path in checkpoint.iterdir():
        assert sent[f"/own/moshi/{path.name}"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (volume(modal) / "own/moshi" / path.name).read_bytes() == path.read_bytes()
    assert set(listed(modal, "own/moshi")["files"]) == {path.name for path in checkpoint.iterdir()}
