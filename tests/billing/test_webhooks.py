"""Stripe's events: who may send them, how they are kept, and what comes of those that fail."""

from __future__ import annotations

import datetime
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django.test import Client, override_settings
from django.utils import timezone

from billing import tasks
from billing.models import StripeEvent, Subscription
from billing.stripe_api import StripeAway
from billing.webhooks import LISTENED, process_event
from tenants.models import Tenant, User
from tenants.scope import enter_operator, enter_tenant
from tests import factories
from tests.billing.factories import hear, subscribe
from tests.stripe_server.client import StripeServer, signed

ADDRESS = "/stripe/events/"


@pytest.fixture
def trial(alice: User) -> Tenant:
    return factories.create_tenant(name="Acme", owner=alice, plan="trial")


@pytest.fixture
def events(stripe_server: StripeServer, trial: Tenant, alice: User) -> list[dict[str, Any]]:
    """What a tenant that subscribed has caused, and we have not heard of."""
    return stripe_server.events(subscribe(stripe_server, trial, alice, plan="growth", is_synced=False))


def post(event: dict[str, Any], **how: Any) -> int:
    body, signature = signed(event, **how)
    return (
        Client()
        .post(ADDRESS, body, content_type="application/json", headers={"Stripe-Signature": signature})
        .status_code
    )


def stored() -> list[StripeEvent]:
    with enter_operator("the tests", reason="look"):
        return list(StripeEvent.objects.all())


def test_an_event_is_kept_byte_for_byte_before_anything_is_made_of_it(
    events: list[dict[str, Any]], trial: Tenant
) -> None:
    assert post(events[0]) == 200
    (event,) = stored()
    assert event.body == json.dumps(events[0]) and event.processed_at is None
    with enter_tenant(trial.id):
        assert Subscription.objects.get().status == "trialing"


def test_an_event_that_comes_again_is_kept_once(events: list[dict[str, Any]]) -> None:
    assert [post(events[0]) for _ in range(3)] == [200, 200, 200]
    assert len(stored()) == 1


@pytest.mark.parametrize(
    "how", [{"secret": "whsec_other"}, {"at": time.time() - 3600}], ids=["another secret", "an hour ago"]
)
def test_what_is_not_signed_now_with_our_secret_is_refused(events: list[dict[str, Any]], how: dict[str, Any]) -> None:
    assert post(events[0], **how) == 400
    assert stored() == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b'{"object": "list"}'])
def test_what_is_no_event_is_refused(stripe_server: StripeServer, body: bytes) -> None:
    import hashlib
    import hmac

    from tests.stripe_server.client import WEBHOOK_SECRET

    at = int(time.time())
    signature = hmac.new(WEBHOOK_SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    for header in (f"t={at},v1={signature}", "t=x,v1=", ""):
        answer = Client().post(ADDRESS, body, content_type="application/json", headers={"Stripe-Signature": header})
        assert answer.status_code == 400
    assert stored() == []


def test_while_billing_is_off_there_is_nothing_at_the_address() -> None:
    assert post({"id": "evt_1", "object": "event"}) == 404


def test_without_a_secret_nothing_is_taken_for_signed(events: list[dict[str, Any]]) -> None:
    with override_settings(STRIPE_WEBHOOK_SECRET=""):
        assert post(events[0], secret="") == 404
    assert stored() == []


def test_no_tenant_reads_what_stripe_told(events: list[dict[str, Any]], trial: Tenant) -> None:
    post(events[0])
    with pytest.raises(DatabaseError, match="permission denied"), enter_tenant(trial.id):
        StripeEvent.objects.first()


def test_an_event_about_somebody_elses_customer_is_kept_and_changes_nothing(
    events: list[dict[str, Any]], stripe_server: StripeServer
) -> None:
    stranger = json.loads(json.dumps(events[0]).replace(events[0]["data"]["object"]["id"], "cus_stranger"))
    assert hear([{**stranger, "id": "evt_stranger"}]) == ["no tenant of ours"]


def test_while_stripe_is_away_an_event_waits_and_beat_finds_it_again(
    events: list[dict[str, Any]], stripe_server: StripeServer, trial: Tenant
) -> None:
    (subscribed,) = [event for event in events if event["type"] == "customer.subscription.created"]
    post(subscribed)
    stripe_server.control("fail", how=[500] * 3)  # the SDK tries three times
    with pytest.raises(StripeAway):
        process_event(subscribed["id"])
    (event,) = stored()
    assert (event.attempts, event.processed_at) == (1, None) and "StripeAway" in event.problem
    with enter_operator("the tests", reason="let time pass"):
        StripeEvent.objects.update(received_at=timezone.now() - datetime.timedelta(minutes=5))
    assert tasks.process_events() == 1
    assert stored()[0].problem == "" and stored()[0].processed_at is not None
    with enter_tenant(trial.id):
        assert Subscription.objects.get().plan_id == "growth"


def test_events_are_replayed_by_name_by_age_or_because_they_wait(events: list[dict[str, Any]], trial: Tenant) -> None:
    def replay(*arguments: str, **options: Any) -> list[str]:
        out = io.StringIO()
        call_command("replay_stripe_events", *arguments, stdout=out, stderr=io.StringIO(), **options)
        return out.getvalue().splitlines()

    for event in events:
        post(event)
    with enter_tenant(trial.id):
        before = Subscription.objects.get().status
    assert before == "trialing"
    assert len(replay()) == len(events)
    assert replay() == []
    assert len(replay(days=1)) == len(events)
    assert replay(events[0]["id"]) == [f"{events[0]['id']}: nothing to do"]
    with pytest.raises(CommandError, match="evt_none"):
        replay("evt_none")
    with enter_tenant(trial.id):
        assert Subscription.objects.get().status == "active"


def test_the_documentation_names_what_the_endpoint_is_to_send() -> None:
    page = (Path(__file__).parents[2] / "docs" / "billing.md").read_text()
    assert re.findall(r"^- `([a-z_.]+)`$", page, re.MULTILINE) == list(LISTENED)


def test_what_is_old_and_processed_is_forgotten(events: list[dict[str, Any]]) -> None:
    hear(events[:1])
    post(events[1])
    with enter_operator("the tests", reason="let time pass"):
        long_ago = timezone.now() - datetime.timedelta(days=91)
        StripeEvent.objects.filter(pk=events[0]["id"]).update(processed_at=long_ago)
    tasks.process_events()
    assert [event.pk for event in stored()] == [events[1]["id"]]


def test_events_that_never_came_are_made_up_for(
    events: list[dict[str, Any]], stripe_server: StripeServer, trial: Tenant
) -> None:
    assert tasks.compare_with_stripe() == 1
    with enter_tenant(trial.id):
        assert Subscription.objects.get().plan_id == "growth"
