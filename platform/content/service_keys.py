"""Keys of managed services: saved, checked with the provider, given to a call's worker, removed."""

from __future__ import annotations

import enum
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils import timezone

from agents import engines
from content import crypto
from content.keys import tenant_key_async
from content.models import ServiceKey
from tenants import audit
from tenants.models import User

if TYPE_CHECKING:
    import psycopg

CHECK_SECONDS = 5.0
MOST_CHARACTERS = 400
_SELECT_SQL = "SELECT provider, secret FROM content_servicekey WHERE tenant_id = %s AND provider = ANY(%s)"


class BadServiceKey(ValueError):
    """The key cannot be saved. The sentence may be shown."""


class Answer(enum.Enum):
    """What a provider says of a key."""

    ACCEPTED = enum.auto()
    REFUSED = enum.auto()
    NONE = enum.auto()
    """It could not be asked."""


def services_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the managed services that an agent's configuration names, by what they do: `stt`, `tts`, or `engine`."""
    match config.get("engine"):
        case engines.OPENAI_REALTIME:
            return {"engine": ServiceKey.Provider.OPENAI.value}
        case "cascade":
            chosen = {part: config.get(part) for part in ("stt", "tts")}
            return {part: provider for part, provider in chosen.items() if provider in ServiceKey.Provider.values}
    return {}


def missing_keys(config: Mapping[str, Any]) -> list[str]:
    """Return the names of services that a configuration uses and the entered tenant has no key for."""
    wanted = list(services_of(config).values())
    saved = set(ServiceKey.objects.filter(provider__in=wanted).values_list("provider", flat=True))
    return [ServiceKey.Provider(provider).label for provider in wanted if provider not in saved]


def save_service_key(*, provider: str, secret: str, actor: User) -> tuple[ServiceKey, Answer]:
    """Save a key in place of one before it, once the provider was asked about it.

    Raises:
        BadServiceKey: it is no key, or the provider refuses it.
    """
    secret = secret.strip()
    if not secret.isascii() or not secret.isprintable() or " " in secret or not 8 <= len(secret) <= MOST_CHARACTERS:
        raise BadServiceKey("A key is one word of at least eight letters, digits and signs.")
    name = ServiceKey.Provider(provider).label
    answer = ask_provider(provider, secret)
    if answer is Answer.REFUSED:
        raise BadServiceKey(f"{name} refuses this key: copy it again, or make a new one there.")
    key, _ = ServiceKey.objects.update_or_create(
        provider=provider,
        defaults={
            "secret": secret,
            "last_four": secret[-4:],
            "saved_by": actor.email,
            "saved_at": timezone.now(),
        },
    )
    audit.record(action="service_key.saved", target=name, actor=actor, details={"checked": answer is Answer.ACCEPTED})
    return key, answer


def remove_service_key(*, key: ServiceKey, actor: User) -> None:
    audit.record(action="service_key.removed", target=key.get_provider_display(), actor=actor)
    key.delete()


async def read_service_keys(
    connection: psycopg.AsyncConnection[Any], tenant_id: uuid.UUID, providers: Sequence[str]
) -> dict[str, str]:
    """Return the keys of these services, on a psycopg connection that has entered the tenant."""
    rows = await (await connection.execute(_SELECT_SQL, (tenant_id, list(providers)))).fetchall()
    if not rows:
        return {}
    content_key = await tenant_key_async(connection, tenant_id)
    return {provider: crypto.decrypt(content_key, bytes(secret)).decode() for provider, secret in rows}


def ask_provider(provider: str, secret: str) -> Answer:
    """Ask a provider whether it knows a key. One that may do little is as good as any other."""
    url, headers = {
        "elevenlabs": (f"{settings.ELEVENLABS_URL}/v1/user", {"xi-api-key": secret}),
        "cartesia": (
            f"{settings.CARTESIA_URL}/voices?limit=1",
            {"X-API-Key": secret, "Cartesia-Version": "2024-11-13"},
        ),
        "deepgram": (f"{settings.DEEPGRAM_URL}/v1/auth/token", {"Authorization": f"Token {secret}"}),
        "openai": (f"{_beside(settings.OPENAI_REALTIME_URL)}/models", {"Authorization": f"Bearer {secret}"}),
    }[provider]
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=CHECK_SECONDS) as answer:
            answer.read(65_536)
    except urllib.error.HTTPError as problem:
        with problem:
            if problem.code not in (401, 403):
                return Answer.NONE
            return Answer.ACCEPTED if _lacks_permission(problem.read(65_536)) else Answer.REFUSED
    except (OSError, ValueError):
        return Answer.NONE
    return Answer.ACCEPTED


def _lacks_permission(body: bytes) -> bool:
    """Return whether the key is known, and only may not do this."""
    try:
        document = json.loads(body)
        if "error" in document:
            return "insufficient permissions" in document["error"]["message"]
        return document["detail"]["status"] == "missing_permissions"
    except (ValueError, KeyError, TypeError):
        return False


def _beside(websocket_url: str) -> str:
    """Return where the plain requests of a service go that has a WebSocket in the same folder."""
    return f"http{websocket_url.removeprefix('ws').rpartition('/')[0]}"
