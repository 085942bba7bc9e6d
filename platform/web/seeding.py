"""What a demo installation holds: an operator, businesses of several trades with their agents, and a month of calls.

Everything is made through the functions that pages and the gateway use. What is there already stays as it is.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.utils import timezone

from agents import scheduling
from agents.catalog import templates_by_slug
from agents.contacts import keep_contact
from agents.models import Agent, Service
from agents.versions import create_agent_from_template, publish
from billing.accounts import open_account
from billing.models import Subscription
from provisioning.pools import create_pool
from tenants.lookups import house_tenant_id, slug_is_taken
from tenants.models import Membership, Role, Tenant, User
from tenants.scope import enter_tenant
from web.seeded_calls import HISTORY_DAYS, tell_history

OPERATOR = "operator@warmline.example"
OWNER = "owner@demo.example"
VIEWER = "viewer@demo.example"

BUSINESSES = (
    # slug, name, time zone, plan, template, calls of history
    ("demo", "Mill Lane Salon", "America/New_York", "growth", "salon-front-desk", 220),
    ("riverside-clinic", "Riverside Clinic", "America/Chicago", "scale", "clinic-reception", 90),
    ("harbour-homes", "Harbour Homes", "Europe/London", "starter", "viewings-desk", 40),
    ("blue-door", "The Blue Door", "Europe/Paris", "starter", "restaurant-host", 50),
    ("swift-plumbing", "Swift Plumbing", "America/Denver", "growth", "plumber-dispatch", 60),
)
SHOWN_TEMPLATES = ("salon-front-desk", *(template for *_, template, _ in BUSINESSES[1:]), "product-desk")
"""Of the agents that visitors of the home page can talk to, one for each trade."""
SHARED_POOL = {
    "worker": "cascade",
    "backend": "local",
    "region": "local",
    "is_shared": True,
    "min_containers": 1,
    "max_containers": 2,
    "sessions_per_container": 4,
    "scaledown_window_seconds": 120,
}
OWN_POOL = {**SHARED_POOL, "is_shared": False, "min_containers": 0, "max_containers": 2, "scaledown_window_seconds": 60}


def seed(password: str, *, history: bool = True, say: Any = print) -> None:
    """Fill an installation. `password`: of the three people who can sign in."""
    operator = _user(OPERATOR, password, operator=True)
    owner, viewer = _user(OWNER, password), _user(VIEWER, password)
    if house_tenant_id() is None:
        _open_house(operator)
        say("made the operator's own tenant, its shared workers and the public demo")
    for slug, name, time_zone, plan, template, calls in BUSINESSES:
        if slug_is_taken(slug):
            continue
        tenant = open_account(name=name, owner=owner, time_zone=time_zone, plan=plan, slug=slug)
        with enter_tenant(tenant.id):
            Membership.objects.create(user=viewer, role=Role.VIEWER)
            agent = _open_business(tenant, template, owner)
        if history:
            _customer_for(tenant, datetime.timedelta(days=HISTORY_DAYS))
            tell_history(tenant, agent, calls)
        say(f"made {name} with an agent{f' and {calls} calls' if history else ''}")


def _user(email: str, password: str, *, operator: bool = False) -> User:
    found = User.objects.filter(email=email).first()
    if found is not None:
        return found
    create = User.objects.create_superuser if operator else User.objects.create_user
    return create(email, password)


def _open_house(operator: User) -> None:
    house = open_account(name="Warmline demo", owner=operator, plan="house", slug="warmline-demo", is_house=True)
    with enter_tenant(house.id):
        create_pool(actor=operator, **SHARED_POOL)
        for slug in SHOWN_TEMPLATES:
            publish(
                agent=create_agent_from_template(template=templates_by_slug()[slug], actor=operator), actor=operator
            )


def _customer_for(tenant: Tenant, time: datetime.timedelta) -> None:
    """Let a tenant's running month begin a while ago, so that the minutes of its history count."""
    with enter_tenant(tenant.id):
        Subscription.objects.update(period_started_at=timezone.now() - time)


def _open_business(tenant: Tenant, template: str, owner: User) -> Agent:
    """Make a business's agent, pool and calendar. The agent of tenant `demo` is called `demo`."""
    slug = "demo" if tenant.slug == "demo" else ""
    agent = create_agent_from_template(template=templates_by_slug()[template], actor=owner, slug=slug)
    publish(agent=agent, actor=owner, note="From the catalogue")
    agent.refresh_from_db()
    if tenant.slug == "demo":
        create_pool(actor=owner, **OWN_POOL)
    _fill_calendar()
    return agent


def _fill_calendar() -> None:
    """Book a few people into the coming days, where there is something to book."""
    service = Service.objects.first()
    if service is None:
        return
    now = timezone.now()
    free = list(scheduling.free_times(service, first=now, last=now + datetime.timedelta(days=9), now=now))
    people = [("Anna Smith", "555 010 1234"), ("Ben Okafor", "555 010 2345"), ("Chloe Martin", "555 010 3456")]
    for (name, phone), at in zip(people, free[3::19], strict=False):
        contact = keep_contact(name=name, phone=phone)
        scheduling.book(service=service, contact=contact, starts_at=at, now=now)
