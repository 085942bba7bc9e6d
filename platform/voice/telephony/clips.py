"""Words for callers as sound, for carriers that speak none: made by a task when a number is saved, played by telephony.

The telephony process has no voice: its cores are for calls. What a business's SIP numbers may have to say is spoken
once, by the cascade's own voice in a process of its own, and kept as an engine would send it.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterable

import structlog
from celery import shared_task
from django.conf import settings

from tenants.models import Tenant
from tenants.ownership import entered_tenant_id
from tenants.scope import enter_operator, enter_tenant
from tenants.tasks import every
from voice.telephony import words
from voice.telephony.models import Carrier, SpokenSentence, TelephoneNumber
from voice.telephony.routing import closed_message

log = structlog.get_logger(__name__)

SAY_SECONDS = 120.0
"""A sentence takes a tenth of a second, the voice's start two."""


class NoVoice(Exception):
    """Nothing was spoken. The sentence is for the log."""


def find_clip(sentence: str) -> bytes | None:
    """Return a sentence of the entered tenant's as Ogg Opus, or None where it was not made yet."""
    sound = SpokenSentence.objects.of(sentence).values_list("sound", flat=True).first()
    return None if sound is None else bytes(sound)


def needed_sentences(numbers: Iterable[TelephoneNumber], tenant: Tenant) -> set[str]:
    """Return what a tenant's numbers at SIP trunks may have to say."""
    closed = {closed_message(each, tenant) for each in numbers if each.outside == TelephoneNumber.Outside.MESSAGE}
    return {*words.ALL, *closed} if numbers else set()


@shared_task(name="voice.telephony.make_clips")
def make_clips(*, tenant_id: str) -> int:
    """Speak what a tenant's SIP numbers may have to say and has not been spoken; return how much that was."""
    with enter_tenant(tenant_id):
        made = set(SpokenSentence.objects.values_list("digest", flat=True))
        missing = [(digest, sentence) for digest, sentence in _needed_here().items() if digest not in made]
    sounds = speak([sentence for _, sentence in missing]) if missing else []
    with enter_tenant(tenant_id):
        SpokenSentence.objects.bulk_create(
            [
                SpokenSentence(tenant_id=entered_tenant_id(), digest=digest, sound=sound)
                for (digest, _), sound in zip(missing, sounds, strict=True)
            ],
            ignore_conflicts=True,  # another task was first
        )
        SpokenSentence.objects.exclude(digest__in=_needed_here()).delete()
    return len(missing)


def _needed_here() -> dict[str, str]:
    """Return what the entered tenant's numbers may have to say, by digest."""
    numbers = list(TelephoneNumber.objects.counted().filter(carrier=Carrier.SIP))
    needed = needed_sentences(numbers, Tenant.objects.get(pk=entered_tenant_id()))
    return {SpokenSentence.digest_of(sentence): sentence for sentence in needed}


@shared_task(name="voice.telephony.sweep_clips")
def sweep_clips() -> int:
    """Have made what is missing, after a lost task or another name of the business; return for how many tenants."""
    with enter_operator("beat", reason="sweep clips"):
        numbers: dict[Tenant, list[TelephoneNumber]] = {}
        for number in TelephoneNumber.objects.counted().filter(carrier=Carrier.SIP).select_related("tenant"):
            numbers.setdefault(number.tenant, []).append(number)
        made: dict[uuid.UUID, set[str]] = {}
        for tenant_id, digest in SpokenSentence.objects.values_list("tenant_id", "digest"):
            made.setdefault(tenant_id, set()).add(digest)
    wrong = made.keys() - {tenant.pk for tenant in numbers}
    for tenant, theirs in numbers.items():
        if made.get(tenant.pk, set()) != {SpokenSentence.digest_of(each) for each in needed_sentences(theirs, tenant)}:
            wrong.add(tenant.pk)
    for tenant_id in wrong:
        make_clips.delay(tenant_id=str(tenant_id))
    return len(wrong)


def speak(sentences: list[str]) -> list[bytes]:
    """Return sentences as Ogg Opus, in a process of its own: this one keeps neither the model nor its memory.

    Raises:
        NoVoice
    """
    environment = {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "WARMLINE_MODELS_DIR")
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "gpu_workers.cascade.say"],
            input=json.dumps(sentences).encode(),
            capture_output=True,
            timeout=SAY_SECONDS,
            cwd=settings.ROOT,
            env={**environment, "PYTHONPATH": str(settings.ROOT)},
            check=True,
        )
        return [base64.b64decode(each) for each in json.loads(done.stdout)]
    except subprocess.CalledProcessError as problem:
        raise NoVoice(f"The voice failed: {problem.stderr.decode(errors='replace')[-300:]}") from None
    except (OSError, ValueError, subprocess.TimeoutExpired) as problem:
        raise NoVoice(f"The voice failed: {type(problem).__name__}") from None


BEAT_SCHEDULE = {"sweep clips": every(60.0, "voice.telephony.sweep_clips")}
