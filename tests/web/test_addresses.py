"""Every address of the installation with who may use it; and another tenant's things under one's own address.

Pages of a tenant and of the operator are listed, and walked with strangers' eyes, in `test_access`.
"""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agents.contacts import keep_contact
from agents.models import Appointment, Closure, Contact, HandOff, Message, Service
from config.asgi import application as web_application
from provisioning.models import Account
from tenants import people
from tenants.access import access_to
from tenants.checks import views
from tenants.models import Membership, Role, Tenant, User
from tenants.scope import enter_tenant
from tests.web.factories import create_agent, create_call, create_ready_pool
from tests.web.test_access import OF_TENANTS, ROUTES
from voice.admission import read_path
from voice.consumers import FleetUpdates, TenantUpdates
from voice.telephony.models import DoNotCall, TelephoneNumber

NOT_OF_A_TENANT = {
    "": "anonymous",
    "pricing/": "anonymous",
    "affiliate/": "anonymous",
    "affiliate/join/": "signed_in",
    "via/<slug:code>/": "anonymous",
    "stripe/events/": "internal",
    "fleet/affiliates/": "operator",
    "fleet/margin/": "operator",
    "fleet/numbers/": "operator",
    "fleet/numbers/<uuid:number_id>/standing/": "operator",
    "fleet/affiliates/<int:affiliate_id>/<str:month_date>/<slug:currency>/": "operator",
    "break-even/": "anonymous",
    "styleguide/": "anonymous",
    "healthz": "anonymous",
    "demo/ticket/": "anonymous",
    "invitations/<str:token>/": "anonymous",
    "metrics": "internal",
    "internal/calls/<uuid:call_id>/tools/<str:name>": "internal",
    "api/calls/": "api",
    "api/calls/<uuid:call_id>/": "api",
    "api/agents/<slug:agent_slug>/tickets/": "api",
    "api/agents/<slug:agent_slug>/telephone-calls/": "api",
    "api/telephone-calls/<uuid:leg_id>/": "api",
    "telephone/<slug:carrier>/voice/": "internal",
    "telephone/<slug:carrier>/answered/<uuid:leg_id>/": "internal",
    "telephone/<slug:carrier>/after/": "internal",
    "telephone/<slug:carrier>/dialled/": "internal",
    "telephone/<slug:carrier>/status/": "internal",
    "telephone/<slug:carrier>/status/<uuid:leg_id>/": "internal",
    "dashboard/": "signed_in",
    "fleet/": "operator",
    "fleet/calls/": "operator",
    "fleet/tenants/<uuid:tenant_id>/standing/": "operator",
}
"""Route to kind of access (tenants.access.Access), of every address but those below /t/, /admin/ and /accounts/."""

SOCKETS = {"t/<slug:tenant_slug>/live/": TenantUpdates, "fleet/live/": FleetUpdates}
"""Every WebSocket route of the web process; `tests/voice/test_live_updates.py` opens each as an outsider."""


def test_every_address_is_listed_with_who_may_use_it() -> None:
    elsewhere = ("t/<slug:tenant_slug>/", "admin/", "accounts/")
    found = {route: access_to(view, name).kind for route, name, view in views() if not route.startswith(elsewhere)}
    assert found == NOT_OF_A_TENANT


def test_every_page_below_a_tenants_address_takes_the_tenant() -> None:
    found = {name.removeprefix("web:") for route, name, _ in views() if route.startswith("t/<slug:tenant_slug>/")}
    assert found == set(OF_TENANTS)


def test_every_socket_route_is_listed() -> None:
    routes = {}
    router = web_application.application_mapping["websocket"].application
    while not hasattr(router, "routes"):
        router = router.inner
    for route in router.routes:
        routes[str(route.pattern)] = route.callback.consumer_class
    assert routes == SOCKETS


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/call/secret/api/chat", "ticket"),
        ("/agent/pk_1/api/chat", "public_key"),
        ("/t/acme/live/", None),
        ("/call/secret", None),
        ("/internal/calls/1/tools/x", None),
    ],
)
def test_a_gateway_takes_calls_with_a_ticket_or_a_public_key_only(path: str, kind: str | None) -> None:
    found = read_path(path)
    assert (found and found[0]) == kind


def things_of(tenant: Tenant, owner: User) -> dict[str, Any]:
    """Fill a tenant with one of everything that has an address, and return what addresses take."""
    now = timezone.now()
    with enter_tenant(tenant.id):
        agent = create_agent()
        call = create_call(agent)
        pool, _, container = create_ready_pool()
        contact = keep_contact(name="Zebulon Quark", phone="555 010 9999")
        service = Service.objects.first()
        appointment = Appointment.objects.create(
            service=service,
            contact=contact,
            name="Zebulon Quark",
            starts_at=now,
            ends_at=now + datetime.timedelta(minutes=30),
            resource=service.resource,
        )
        closure = Closure.objects.create(first_date=now.date(), last_date=now.date())
        message = Message.objects.create(contact=contact, text="Zebulon Quark called.")
        HandOff.objects.create(contact=contact, reason="Zebulon Quark was lost.")
        account = Account.objects.create(backend="modal", last_four="0042")
        invitation = people.invite(tenant=tenant, email="zoe@acme.example", role=Role.VIEWER, invited_by=owner)
        number = TelephoneNumber.objects.create(number="+14155550155", carrier="sip", agent=agent)
        entry = DoNotCall.objects.create(number="+14155550156", reason="Zebulon Quark asked for it.")
        key, _ = people.create_api_key(name="Zebulon's key", scopes=["calls:create"], actor=owner)
        return {
            "agent_slug": agent.slug,
            "number": 1,
            "call_id": call.pk,
            "pool_id": pool.pk,
            "container_id": container.pk,
            "appointment_id": appointment.pk,
            "closure_id": closure.pk,
            "service_id": service.pk,
            "left_id": message.pk,
            "kind": "message",
            "membership_id": Membership.objects.get(user=owner).pk,
            "invitation_id": invitation.pk,
            "key_id": key.pk,
            "number_id": number.pk,
            "entry_id": entry.pk,
            "tenant_id": tenant.pk,
            # Names that are nobody's own: a plan that is not for sale, what has no accounts.
            "plan_slug": "house",
            "backend": "local",
            "carrier": "sip",
            "account_id": account.pk,
        }


def state_of(tenant: Tenant) -> list[Any]:
    """Return every row that the addresses could change."""
    from django.apps import apps

    from tenants.ownership import TenantOwned

    with enter_tenant(tenant.id):
        owned = [model for model in apps.get_models() if issubclass(model, TenantOwned)]
        return [list(model.objects.order_by("pk").values()) for model in owned]


def test_an_owner_reaches_nothing_of_another_tenant_under_their_own_address(
    client_of: Any, acme: Tenant, rival: Tenant, alice: User, charlie: User
) -> None:
    """Walk every page of a tenant that names a thing, as an owner, with the ids of another tenant's things."""
    known = things_of(acme, alice)
    before = state_of(acme)
    client = client_of(charlie)
    walked = set()
    for name in OF_TENANTS:
        arguments = ROUTES[name] - {"tenant_slug"}
        if not arguments:
            continue
        assert arguments <= set(known), f"{name} takes something that things_of does not make"
        address = reverse(f"web:{name}", kwargs={"tenant_slug": rival.slug, **{key: known[key] for key in arguments}})
        answers = {client.get(address).status_code, client.post(address).status_code}
        assert answers <= {404, 405} and 404 in answers, (name, answers)
        walked.add(name)
    assert len(walked) > 15
    assert state_of(acme) == before


def test_no_list_of_a_tenant_shows_anything_of_another(
    client_of: Any, acme: Tenant, rival: Tenant, alice: User, charlie: User
) -> None:
    things_of(acme, alice)
    with enter_tenant(acme.id):
        hidden = [
            "Zebulon",
            "zoe@acme.example",
            "alice@acme.example",
            str(Contact.objects.get().pk),
            "Caller&#x27;s words",
        ]
    client = client_of(charlie)
    for name in OF_TENANTS:
        if ROUTES[name] != {"tenant_slug"}:
            continue
        answer = client.get(reverse(f"web:{name}", kwargs={"tenant_slug": rival.slug}))
        text = answer.content.decode()
        assert answer.status_code in (200, 405), name
        assert [word for word in hidden if word in text] == [], name


@pytest.mark.parametrize("model", sorted(admin.site._registry, key=str), ids=lambda model: model._meta.label)
def test_the_operators_admin_is_for_operators_only(
    model: Any, client_of: Any, visitor: Client, acme: Tenant, alice: User, olivia: User
) -> None:
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    assert visitor.get(address).status_code == 302
    assert client_of(alice).get(address).status_code == 404
    assert client_of(olivia).get(address).status_code == 200


def test_what_an_admin_page_names_is_hidden_from_owners(client_of: Any, acme: Tenant, alice: User) -> None:
    for address in ("/admin/", "/admin/login/", f"/admin/tenants/tenant/{acme.pk}/change/", f"/admin/{uuid.uuid4()}/"):
        assert client_of(alice).get(address).status_code == 404, address


def test_an_unknown_address_is_not_found(client_of: Any, visitor: Client, acme: Tenant, alice: User) -> None:
    assert visitor.get("/nowhere/").status_code == 404
    assert client_of(alice).get(f"/t/{acme.slug}/nowhere/").status_code == 404
