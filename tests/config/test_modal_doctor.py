"""`manage.py doctor` on Modal: what is missing there, each with the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.core import checks
from django.test import override_settings

from gpu_workers.images import image_name
from gpu_workers.kinds import KINDS
from gpu_workers.weights import DEFAULT_CHECKPOINTS
from provisioning.pools import create_pool
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.modal_server.pools import look_there
from tests.modal_server.processes import ModalServer, modal_server
from web.examination import Finding
from web.modal_examination import examine_modal


@pytest.fixture
def modal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModalServer]:
    with modal_server(tmp_path / "modal") as server:
        look_there(server, monkeypatch)
        yield server


def findings() -> list[Finding]:
    return list(examine_modal())


def test_who_does_not_use_modal_hears_nothing_of_it() -> None:
    assert findings() == []


def test_each_thing_that_is_missing_is_named_with_what_mends_it(modal: ModalServer, acme: Tenant) -> None:
    credentials, *missing = findings()
    assert (credentials.state, credentials.sentence) == ("ok", "they open the workspace operators")
    assert len(missing) == len(KINDS) + len(DEFAULT_CHECKPOINTS)
    assert {each.state for each in missing} == {"warning"}, "no pool needs it yet"

    modal.change(images=[image_name("cascade")])
    with enter_tenant(acme.id):
        create_pool(actor=None, backend="modal", region="us-east", worker="moshi")
    _, image, weights = findings()
    assert (image.state, weights.state) == ("wrong", "wrong")
    assert image.sentence == f"The workspace lacks the image {image_name('moshi')}."
    assert image.advice == "Run `manage.py build_images --worker moshi`."
    assert weights.sentence == f"The workspace lacks the weights {DEFAULT_CHECKPOINTS['moshi']}."
    assert weights.advice == "Run `manage.py fetch_weights --worker moshi`."

    modal.change(images=[image_name("moshi")], weights=[DEFAULT_CHECKPOINTS["moshi"]])
    assert [each.state for each in findings()] == ["ok", "ok"]


def test_credentials_that_are_missing_or_wrong_are_told(
    modal: ModalServer, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MODAL_TOKEN_SECRET", "as-wrong")
    (refused,) = findings()
    assert refused.state == "wrong" and "refuses the credentials" in refused.sentence
    assert "as-wrong" not in refused.sentence and "modal token new" in refused.advice
    monkeypatch.setattr(settings, "MODAL_TOKEN_ID", "")
    assert findings() == []
    with enter_tenant(acme.id):
        create_pool(actor=None, backend="modal", region="us-east")
    (missing,) = findings()
    assert missing.state == "wrong" and "no token for it is set" in missing.sentence


def test_half_a_token_is_told_without_asking_anybody() -> None:
    with override_settings(MODAL_TOKEN_ID="ak-1", MODAL_TOKEN_SECRET=""):
        (found,) = [message for message in checks.run_checks() if message.id == "config.E010"]
    assert "MODAL_TOKEN_SECRET is not set" in found.msg and "modal token new" in found.hint
    assert [message for message in checks.run_checks() if message.id == "config.E010"] == []
