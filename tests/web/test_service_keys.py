"""Keys of managed services: saved once the provider knows them, never shown again, asked for before they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connections

from agents.models import Agent
from content.models import ServiceKey
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_tenant
from tests.gpu_workers.worker_processes import process
from tests.providers import KEY, LIMITED_KEY
from tests.web import factories
from tests.web.test_agent_draft import ADDRESS, form_of, stored

PAGE = "/t/acme/services/"
PROVIDERS = ["elevenlabs", "cartesia", "deepgram", "openai"]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("providers")
    with process("tests.providers", log=folder / "providers.log") as providers:
        assert providers.stdout is not None
        yield f"http://127.0.0.1:{int(providers.stdout.readline())}"


@pytest.fixture(autouse=True)
def _where(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ELEVENLABS_URL", provider)
    monkeypatch.setattr(settings, "CARTESIA_URL", provider)
    monkeypatch.setattr(settings, "DEEPGRAM_URL", provider)
    monkeypatch.setattr(settings, "OPENAI_REALTIME_URL", f"{provider.replace('http', 'ws')}/v1/realtime")


def keys_of(tenant: Tenant) -> dict[str, str]:
    with enter_tenant(tenant.id):
        return {key.provider: key.secret for key in ServiceKey.objects.all()}


def trail_of(tenant: Tenant) -> list[AuditEntry]:
    with enter_tenant(tenant.id):
        return list(AuditEntry.objects.filter(action__startswith="service_key").order_by("occurred_at"))


def save(client: Any, provider: str, secret: str) -> Any:
    return client.post(PAGE, {"provider": provider, "secret": secret}, follow=True)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_key_that_the_service_knows_is_saved_and_not_shown(
    name: str, client_of: Any, acme: Tenant, alice: User
) -> None:
    page = save(client_of(alice), name, f" {KEY} ").content.decode()
    assert "The key is saved" in page and "knows it" in page
    assert "…1234" in page and alice.email in page
    assert KEY not in page
    assert keys_of(acme) == {name: KEY}
    (entry,) = trail_of(acme)
    assert (entry.action, entry.details) == ("service_key.saved", {"checked": True})
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT row_to_json(content_servicekey)::text FROM content_servicekey")
        assert KEY not in str(cursor.fetchall())


@pytest.mark.parametrize("name", ["elevenlabs", "openai"])
def test_a_new_key_takes_the_place_of_the_old_one(name: str, client_of: Any, acme: Tenant, alice: User) -> None:
    save(client_of(alice), name, LIMITED_KEY)  # one that may only speak is as good as any
    assert "…5678" in client_of(alice).get(PAGE).content.decode()
    save(client_of(alice), name, KEY)
    assert keys_of(acme) == {name: KEY}


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(
    ("secret", "sentence"),
    [
        ("a-key-that-nobody-knows", "refuses this key"),
        ("short", "one word of at least eight"),
        ("two words of a key", "one word of at least eight"),
        ("schlüssel-nummer-eins", "one word of at least eight"),
        ("x" * 401, "at most 400"),
        ("", "This field is required"),
    ],
)
def test_what_is_no_key_is_told_and_not_saved(
    name: str, secret: str, sentence: str, client_of: Any, acme: Tenant, alice: User
) -> None:
    answer = client_of(alice).post(PAGE, {"provider": name, "secret": secret})
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert not secret or f'value="{secret}"' not in answer.content.decode()
    assert keys_of(acme) == {}


def test_a_service_that_is_away_does_not_keep_a_key_from_being_saved(
    client_of: Any, acme: Tenant, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "CARTESIA_URL", "http://127.0.0.1:9")
    assert "could not be asked" in save(client_of(alice), "cartesia", KEY).content.decode()
    assert keys_of(acme) == {"cartesia": KEY}
    assert trail_of(acme)[0].details == {"checked": False}


def test_a_key_is_removed_by_its_own_tenant_alone(
    client_of: Any, acme: Tenant, rival: Tenant, alice: User, charlie: User
) -> None:
    save(client_of(alice), "elevenlabs", KEY)
    with enter_tenant(acme.id):
        key = ServiceKey.objects.get()
    assert client_of(charlie).post(f"/t/rival/services/{key.pk}/remove/").status_code == 404
    assert "No key yet" in client_of(charlie).get("/t/rival/services/").content.decode()
    assert "is removed" in client_of(alice).post(f"{PAGE}{key.pk}/remove/", follow=True).content.decode()
    assert keys_of(acme) == {}
    assert [entry.action for entry in trail_of(acme)] == ["service_key.saved", "service_key.removed"]


@pytest.mark.parametrize(
    ("provider", "name", "choice"),
    [
        ("elevenlabs", "ElevenLabs", {"tts": "elevenlabs"}),
        (
            "openai",
            "OpenAI",
            {"engine": "openai_realtime", "voice": "marin", "realtime.model": "gpt-realtime-2.1-mini"},
        ),
    ],
)
def test_an_agent_is_not_published_before_its_service_has_a_key(
    provider: str, name: str, choice: dict[str, str], client_of: Any, acme: Tenant, alice: User
) -> None:
    with enter_tenant(acme.id):
        agent: Agent = factories.create_agent()
    typed = {**form_of(agent.draft), **choice, "action": "publish"}
    before = stored(agent).live_version
    answer = client_of(alice).post(ADDRESS, typed)
    assert answer.status_code == 422
    assert f"save a key of {name} under Services first" in answer.content.decode()
    draft = stored(agent).draft
    assert all(draft[key] == value for key, value in choice.items() if "." not in key)
    assert stored(agent).live_version == before

    save(client_of(alice), provider, KEY)
    assert client_of(alice).post(ADDRESS, typed).status_code == 302
    live = stored(agent).live_version
    assert live is not None and live.config == draft
