"""`manage.py seed_demo`: a tenant `demo` with an agent `demo` to call, and others with a history."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command

from agents.models import Agent, Appointment
from billing.entitlements import entitlements_of
from content.models import ToolRun, TranscriptLine
from provisioning.models import CostEntry, Pool
from tenants.lookups import house_tenant_id, memberships_of
from tenants.models import Role, User
from tenants.scope import enter_operator, enter_tenant
from voice.models import Call
from web.seeding import BUSINESSES, OPERATOR, OWNER, VIEWER

PASSWORD = "a password for the demo"


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> User:
    """The operator of a seeded installation."""
    monkeypatch.setenv("WARMLINE_DEMO_PASSWORD", PASSWORD)
    call_command("seed_demo", verbosity=0)
    return User.objects.get(email=OPERATOR)


def everything(operator: User) -> dict[str, int]:
    with enter_operator(operator, reason="a test"):
        return {
            model.__name__: model.objects.count()
            for model in (User, Agent, Pool, Call, TranscriptLine, CostEntry, Appointment)
        }


def test_a_demo_is_filled_once(seeded: User) -> None:
    before = everything(seeded)
    assert before["Call"] == sum(count for *_, count in BUSINESSES)
    assert min(before.values()) > 0
    call_command("seed_demo", verbosity=0)
    assert everything(seeded) == before


def test_the_three_people_can_sign_in_to_what_is_theirs(seeded: User) -> None:
    owner, viewer = User.objects.get(email=OWNER), User.objects.get(email=VIEWER)
    assert all(each.check_password(PASSWORD) for each in (seeded, owner, viewer))
    assert seeded.is_operator and not owner.is_operator
    roles = {each.slug: each.role for each in memberships_of(owner.pk)}
    assert roles == {slug: Role.OWNER for slug, *_ in BUSINESSES}
    assert {each.role for each in memberships_of(viewer.pk)} == {Role.VIEWER}


def test_demo_has_an_agent_to_call_a_pool_and_a_history_that_adds_up(seeded: User) -> None:
    owner = User.objects.get(email=OWNER)
    demo = next(each for each in memberships_of(owner.pk) if each.slug == "demo")
    with enter_tenant(demo.tenant_id):
        agent = Agent.objects.get(slug="demo")
        assert agent.live_version is not None and agent.template_slug == "salon-front-desk"
        assert Pool.objects.get().is_enabled
        assert Appointment.objects.exists()
        calls = list(Call.objects.all())
        assert all(call.status == Call.Status.ENDED for call in calls)
        assert sum(call.cost_nano_dollars for call in calls) == CostEntry.objects.total() > 0
        for turn in calls[0].turns.exclude(turn_ms=None):
            parts = (turn.end_of_turn_ms, turn.stt_ms, turn.llm_ttft_ms, turn.tts_ttfb_ms, turn.other_ms)
            assert sum(parts) == turn.turn_ms
        assert {"check_availability", "book_appointment", "take_message"} == set(
            ToolRun.objects.values_list("name", flat=True)
        )
        assert not any("{" in line.text for line in TranscriptLine.objects.all())
        seconds = sum(call.duration_ms for call in calls) // 1000
        assert entitlements_of().used_minutes == pytest.approx(seconds / 60, abs=5)


def test_visitors_can_talk_to_an_agent_of_each_trade(seeded: User, visitor: Any) -> None:
    house = house_tenant_id()
    assert house is not None
    with enter_tenant(house):
        assert len(set(Agent.objects.values_list("vertical", flat=True))) == 6
        assert Pool.objects.get().is_shared
    page = visitor.get("/").content.decode()
    assert page.count('name="demo-agent"') == 6
