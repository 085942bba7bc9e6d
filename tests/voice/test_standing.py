"""Pages and the gateway say the same about whether a call may begin: billing.entitlements and voice.admission."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils import timezone
from psycopg_pool import AsyncConnectionPool

from billing.entitlements import entitlements_of
from billing.models import Subscription, Usage
from gpu_workers.protocol import CloseCode
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from voice.admission import Refused, Request, admit
from voice.options import Options

BEFORE, AFTER = -datetime.timedelta(minutes=1), datetime.timedelta(minutes=1)

STANDINGS: list[tuple[str, dict[str, Any], int, CloseCode | None]] = [
    ("a trial that goes on", {"status": "trialing", "trial_ends_at": AFTER}, 0, None),
    ("a trial that has ended", {"status": "trialing", "trial_ends_at": BEFORE}, 0, CloseCode.TRIAL_EXPIRED),
    (
        "a trial that Stripe ends",
        {"status": "trialing", "trial_ends_at": BEFORE, "stripe_subscription_id": "sub_1"},
        0,
        None,
    ),
    ("a plan", {"status": "active"}, 0, None),
    (
        "a plan after its trial",
        {"status": "active", "trial_ends_at": BEFORE, "stripe_subscription_id": "sub_1"},
        0,
        None,
    ),
    ("a plan beyond its minutes", {"status": "active"}, 10**9, None),
    ("a plan that stops, within its minutes", {"plan_id": "trial", "status": "active"}, 120 * 60 - 1, None),
    ("a plan that stops, at its minutes", {"plan_id": "trial", "status": "active"}, 120 * 60, CloseCode.SPEND_CAP),
    ("past due, in grace", {"status": "past_due", "grace_ends_at": AFTER}, 0, None),
    ("past due, without an end", {"status": "past_due"}, 0, None),
    ("past due, after its grace", {"status": "past_due", "grace_ends_at": BEFORE}, 0, CloseCode.TENANT_SUSPENDED),
    ("cancelled for a later day", {"status": "active", "cancels_at": AFTER}, 0, None),
    ("cancelled", {"status": "cancelled"}, 0, CloseCode.TENANT_SUSPENDED),
    ("ended at Stripe", {"status": "cancelled", "ended_at": BEFORE}, 0, CloseCode.TENANT_SUSPENDED),
    ("paid again", {"status": "active", "grace_ends_at": BEFORE, "ended_at": BEFORE}, 0, None),
]


@pytest.mark.parametrize(
    ("fields", "used_seconds", "refusal"), [each[1:] for each in STANDINGS], ids=[each[0] for each in STANDINGS]
)
async def test_pages_and_gateway_agree(
    acme: Tenant, fields: dict[str, Any], used_seconds: int, refusal: CloseCode | None
) -> None:
    def stand() -> tuple[str, str | None]:
        now = timezone.now()
        values = {name: now + each if isinstance(each, datetime.timedelta) else each for name, each in fields.items()}
        with enter_tenant(acme.id):
            agent = factories.create_agent(allowed_origins=["*"])
            Subscription.objects.update(**values)
            if used_seconds:
                Usage.objects.create(
                    kind="call_seconds", quantity=used_seconds, occurred_at=now, idempotency_key="before"
                )
            return agent.public_key, entitlements_of().refusal

    public_key, sentence = await sync_to_async(stand)()
    assert bool(sentence) == bool(refusal), sentence
    async with AsyncConnectionPool(settings.DATABASE_URL, min_size=1, open=False) as pool:
        request = Request("public_key", public_key, origin="https://acme.example")
        if refusal is None:
            assert (await admit(pool, request, Options.from_environment(), wait=True)).tenant_id == acme.id
        else:
            with pytest.raises(Refused) as refused:
                await admit(pool, request, Options.from_environment(), wait=True)
            assert refused.value.close_code == refusal
