"""An agent's life: made from a template, drafted, published, rolled back, archived."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.utils import DatabaseError

from agents.catalog import templates_by_slug
from agents.models import Agent, AgentVersion, OpeningHours, Service
from agents.versions import (
    InvalidConfig,
    NotPossible,
    archive,
    change_access,
    create_agent_from_template,
    publish,
    roll_back,
    save_draft,
)
from billing.models import Plan, Subscription
from tenants.models import AuditEntry, Tenant, User
from tenants.ownership import TenantOwned
from tenants.scope import enter_tenant
from tests import factories as people
from tests.agents.factories import CONFIG, changed, create_agent

SALON = "salon-front-desk"


def greet(agent: Agent, greeting: str, *, actor: User | None = None) -> AgentVersion:
    """Publish the agent with another greeting."""
    agent.refresh_from_db()
    save_draft(agent=agent, draft=changed(agent.draft, "greeting", greeting), actor=actor)
    return publish(agent=agent, actor=actor)


def live_number(agent: Agent) -> int | None:
    agent.refresh_from_db()
    return agent.live_version.number if agent.live_version else None


def actions() -> list[str]:
    entries = AuditEntry.objects.filter(action__startswith="agent.").order_by("occurred_at")
    return list(entries.values_list("action", flat=True))


def test_an_agent_from_a_template_has_a_calendar_that_works(inside: Tenant, alice: User) -> None:
    template = templates_by_slug()[SALON]
    agent = create_agent_from_template(template=template, actor=alice, name="Reception")
    assert (agent.slug, agent.vertical) == ("reception", "salon")
    assert agent.name == agent.draft["name"] == "Reception"
    assert agent.live_version is None
    assert Service.objects.count() == len(template.services)
    assert OpeningHours.objects.count() == sum(len(each) for each in template.opening_hours.values())
    assert actions() == ["agent.created"]


def test_a_second_agent_leaves_the_calendar_as_the_business_made_it(inside: Tenant) -> None:
    create_agent()
    OpeningHours.objects.filter(weekday=5).delete()
    Service.objects.filter(name="haircut").update(duration_minutes=20)
    create_agent()
    assert not OpeningHours.objects.filter(weekday=5).exists()
    assert Service.objects.get(name="haircut").duration_minutes == 20


def test_every_template_sets_a_calendar_up(inside: Tenant) -> None:
    Plan.objects.using("operator").filter(pk=Subscription.objects.get().plan_id).update(max_agents=100)
    try:
        for slug in templates_by_slug():
            create_agent(template=slug)
    finally:
        Plan.objects.using("operator").filter(pk=Subscription.objects.get().plan_id).update(max_agents=10)


def test_agents_of_one_name_get_addresses_of_their_own(inside: Tenant) -> None:
    assert [create_agent(name="New").slug for _ in range(3)] == ["new-2", "new-3", "new-4"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "x" * 81}, "The name must be at most 80 characters long."),
        ({"slug": "desk"}, "There is an agent desk already."),
        ({"slug": "new"}, "There is an agent new already."),
    ],
)
def test_a_name_that_cannot_be_is_told(inside: Tenant, fields: dict[str, str], sentence: str) -> None:
    create_agent(slug="desk")
    with pytest.raises(NotPossible, match=sentence):
        create_agent(**fields)


def test_the_plan_limits_how_many_agents_there_are() -> None:
    tenant = people.create_tenant(name="Small", plan="starter")
    with enter_tenant(tenant.pk):
        limit = Subscription.objects.select_related("plan").get().plan.max_agents
        made = [create_agent() for _ in range(limit)]
        with pytest.raises(NotPossible, match=f"The plan allows {limit} agents"):
            create_agent()
        archive(agent=made[0], actor=None)
        create_agent()


def test_two_people_at_once_cannot_go_over_the_plans_limit() -> None:
    tenant = people.create_tenant(name="Small", plan="starter")
    with enter_tenant(tenant.pk):
        limit = Subscription.objects.select_related("plan").get().plan.max_agents
        for _ in range(limit - 1):
            create_agent()
    barrier, outcomes = threading.Barrier(2, timeout=10), []

    def make_one() -> None:
        try:
            with enter_tenant(tenant.pk):
                barrier.wait()
                outcomes.append(create_agent())
        except NotPossible as refusal:
            outcomes.append(refusal)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=make_one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(type(each).__name__ for each in outcomes) == ["Agent", "NotPossible"]


def test_a_draft_with_mistakes_is_kept_and_cannot_be_published(inside: Tenant, agent: Agent) -> None:
    broken = changed(CONFIG, "goodbye", "")
    assert save_draft(agent=agent, draft=broken, actor=None) == [("goodbye", "This must not be empty.")]
    agent.refresh_from_db()
    assert agent.draft == broken
    with pytest.raises(InvalidConfig, match="goodbye: This must not be empty.") as caught:
        publish(agent=agent, actor=None)
    assert caught.value.problems == [("goodbye", "This must not be empty.")]
    assert not AgentVersion.objects.exists()


def test_publishing_makes_numbered_versions_and_the_last_is_live(inside: Tenant, alice: User, agent: Agent) -> None:
    first = publish(agent=agent, actor=alice, note="  First words ")
    assert (first.number, first.note, first.engine, first.published_by) == (1, "First words", "cascade", alice)
    assert live_number(agent) == 1
    second = greet(agent, "Good day.", actor=alice)
    assert (second.number, live_number(agent)) == (2, 2)
    first.refresh_from_db()
    assert first.config == CONFIG
    assert actions() == ["agent.published", "agent.draft_saved", "agent.published"]


def test_publishing_the_same_again_is_refused(inside: Tenant, agent: Agent) -> None:
    publish(agent=agent, actor=None)
    with pytest.raises(NotPossible, match="Nothing has changed since the live version."):
        publish(agent=agent, actor=None)
    assert AgentVersion.objects.count() == 1


@pytest.mark.parametrize("change", ["update", "delete"])
def test_a_version_never_changes(acme: Tenant, change: str) -> None:
    with enter_tenant(acme.pk):
        version = publish(agent=create_agent(), actor=None)
    with enter_tenant(acme.pk), pytest.raises(DatabaseError), transaction.atomic():
        versions = AgentVersion.objects.filter(pk=version.pk)
        versions.update(note="rewritten") if change == "update" else versions.delete()


def test_two_people_who_publish_at_once_get_a_number_each(acme: Tenant) -> None:
    with enter_tenant(acme.pk):
        agent = create_agent()
    barrier, outcomes = threading.Barrier(2, timeout=10), []

    def publish_once() -> None:
        try:
            with enter_tenant(acme.pk):
                barrier.wait()
                outcomes.append(publish(agent=agent, actor=None).number)
        except NotPossible as refusal:
            outcomes.append(str(refusal))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=publish_once) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(outcomes, key=str) == [1, "Nothing has changed since the live version."]


def test_rolling_back_makes_an_older_version_live_and_keeps_draft_and_numbers(
    inside: Tenant, alice: User, agent: Agent
) -> None:
    first = publish(agent=agent, actor=alice)
    greet(agent, "Good day.")
    roll_back(agent=agent, version=first, actor=alice)
    assert live_number(agent) == 1
    assert agent.draft["greeting"] == "Good day."
    assert AgentVersion.objects.count() == 2
    entry = AuditEntry.objects.get(action="agent.rolled_back")
    assert (entry.details, entry.actor) == ({"from": 2, "to": 1}, alice)
    assert greet(agent, "Welcome.").number == 3


def test_what_was_rolled_back_can_be_published_again(inside: Tenant, agent: Agent) -> None:
    first = publish(agent=agent, actor=None)
    greet(agent, "Good day.")
    roll_back(agent=agent, version=first, actor=None)
    agent.refresh_from_db()
    assert publish(agent=agent, actor=None).number == 3


def test_rolling_back_to_what_is_live_or_of_another_agent_is_refused(inside: Tenant, agent: Agent) -> None:
    version = publish(agent=agent, actor=None)
    with pytest.raises(NotPossible, match="Version 1 is the live one already."):
        roll_back(agent=agent, version=version, actor=None)
    other = publish(agent=create_agent(), actor=None)
    with pytest.raises(NotPossible, match="That version is of another agent."):
        roll_back(agent=agent, version=other, actor=None)


def test_rolling_back_to_a_version_whose_tool_is_gone_is_refused(inside: Tenant, agent: Agent) -> None:
    old = AgentVersion.objects.create(agent=agent, number=1, config={**CONFIG, "tools": ["fax"]}, engine="cascade")
    agent.draft = changed(CONFIG, "greeting", "Hi.")
    agent.save()
    publish(agent=agent, actor=None)
    with pytest.raises(InvalidConfig, match="There is no tool “fax”."):
        roll_back(agent=agent, version=old, actor=None)


def test_an_archived_agent_takes_no_calls_and_keeps_its_versions(inside: Tenant, agent: Agent) -> None:
    publish(agent=agent, actor=None)
    assert list(Agent.objects.callable()) == [agent]
    agent.refresh_from_db()
    archive(agent=agent, actor=None)
    assert not Agent.objects.callable().exists() and not Agent.objects.current().exists()
    assert AgentVersion.objects.filter(agent=agent).exists()


def test_public_keys_are_random(inside: Tenant) -> None:
    keys = {create_agent().public_key for _ in range(3)}
    assert len(keys) == 3 and all(key.startswith("pk_") and len(key) > 20 for key in keys)


@pytest.mark.parametrize(
    "origin", ["www.example.com", "https://example.com/page", "javascript:alert(1)", "https://", "https://a b.com", ""]
)
def test_an_origin_that_is_none_is_refused(inside: Tenant, agent: Agent, origin: str) -> None:
    with pytest.raises(NotPossible, match="is not the origin of a page"):
        change_access(agent=agent, allowed_origins=[origin], calls_per_minute=5, actor=None)
    agent.refresh_from_db()
    assert (agent.allowed_origins, agent.calls_per_minute) == ([], 30)


def test_access_changes_at_once_and_is_audited(inside: Tenant, alice: User, agent: Agent) -> None:
    origins = ["https://www.example.com", "http://localhost:3000", "https://www.example.com", "*"]
    change_access(agent=agent, allowed_origins=origins, calls_per_minute=5, actor=alice)
    agent.refresh_from_db()
    assert agent.allowed_origins == ["https://www.example.com", "http://localhost:3000", "*"]
    assert AuditEntry.objects.get(action="agent.access_changed").details["calls_per_minute"] == 5


OWNED: list[tuple[type[TenantOwned], dict[str, Any]]] = [
    (Agent, {"slug": "a", "name": "A", "vertical": "salon"}),
    (Service, {"name": "haircut"}),
]


@pytest.mark.parametrize(("model", "fields"), OWNED)
def test_another_tenant_sees_nothing_of_it(
    acme: Tenant, rival: Tenant, model: type[TenantOwned], fields: dict[str, Any]
) -> None:
    with enter_tenant(acme.pk):
        model.objects.create(**fields)
    with enter_tenant(rival.pk):
        assert not model.objects.exists()
