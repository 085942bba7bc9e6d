"""Members, invitations, API keys and the audit trail, as owners and others meet them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from tenants import audit
from tenants.models import ApiKey, AuditEntry, Invitation, Membership, Role, Tenant, User
from tenants.scope import enter_tenant
from tests import factories


def membership_of(tenant: Tenant, user: User) -> Membership:
    with enter_tenant(tenant.id):
        return Membership.objects.get(user=user)


def follow(client: Client, address: str, body: dict[str, Any] | None = None) -> str:
    """Post, and return the page that one is led to."""
    answer = client.post(address, body or {}, follow=True)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


# --- members ----------------------------------------------------------------------------------------------------------
def test_an_invited_person_signs_up_by_the_link_and_is_a_member(
    client_of: Any, visitor: Client, acme: Tenant, alice: User
) -> None:
    page = follow(client_of(alice), "/t/acme/members/invite/", {"email": "dora@acme.example", "role": Role.DEVELOPER})
    assert "An invitation is on its way to dora@acme.example." in page
    assert "Open invitations" in page and "dora@acme.example" in page
    link = re.search(r"/invitations/[^/\s]+/", mail.outbox[-1].body).group()
    assert "Acme" in visitor.get(link).content.decode()

    dora = factories.create_user(email="dora@acme.example")
    page = follow(client_of(dora), link)
    assert "Welcome to Acme." in page
    assert membership_of(acme, dora).role == Role.DEVELOPER


@pytest.mark.parametrize(
    ("email", "sentence"),
    [("nobody", "Enter a valid e"), ("", "This field is required"), ("bob@acme.example", "is a member already")],
)
def test_a_bad_invitation_is_told_and_what_was_typed_stays(
    email: str, sentence: str, client_of: Any, acme: Tenant, alice: User
) -> None:
    answer = client_of(alice).post("/t/acme/members/invite/", {"email": email, "role": Role.ADMIN})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert sentence in page
    assert f'value="{email}"' in page or not email
    assert re.search(rf'<option value="{Role.ADMIN}" selected', page)
    assert not mail.outbox


def test_an_invitation_can_be_withdrawn(client_of: Any, acme: Tenant, alice: User, visitor: Client) -> None:
    client = client_of(alice)
    follow(client, "/t/acme/members/invite/", {"email": "dora@acme.example", "role": Role.VIEWER})
    link = re.search(r"/invitations/[^/\s]+/", mail.outbox[-1].body).group()
    with enter_tenant(acme.id):
        invitation = Invitation.objects.get()
    page = follow(client, f"/t/acme/members/invitations/{invitation.pk}/withdraw/")
    assert "The invitation was withdrawn." in page and "dora@" not in page
    assert visitor.get(link).status_code == 404


def test_an_unknown_invitation_is_told(visitor: Client) -> None:
    answer = visitor.get("/invitations/made-up/")
    assert answer.status_code == 404
    assert "This invitation is not known." in answer.content.decode()


def test_a_role_is_changed_and_a_member_removed(client_of: Any, acme: Tenant, alice: User, bob: User) -> None:
    client, address = client_of(alice), f"/t/acme/members/{membership_of(acme, bob).pk}/"
    assert "bob@acme.example is now developer." in follow(client, address, {"role": Role.DEVELOPER})
    assert membership_of(acme, bob).role == Role.DEVELOPER
    assert "bob@acme.example is no longer a member." in follow(client, address, {"action": "remove"})
    assert client_of(bob).get("/t/acme/").status_code == 404


def test_a_tenant_keeps_an_owner(client_of: Any, acme: Tenant, alice: User) -> None:
    client, address = client_of(alice), f"/t/acme/members/{membership_of(acme, alice).pk}/"
    for body in ({"action": "remove"}, {"role": Role.VIEWER}):
        assert "owner" in follow(client, address, body).lower()
        assert membership_of(acme, alice).role == Role.OWNER


def test_an_admin_does_not_make_owners(client_of: Any, acme: Tenant, alice: User, bob: User) -> None:
    dora = factories.create_user(email="dora@acme.example")
    factories.add_member(tenant=acme, user=dora, role=Role.ADMIN)
    follow(client_of(dora), f"/t/acme/members/{membership_of(acme, bob).pk}/", {"role": Role.OWNER})
    assert membership_of(acme, bob).role == Role.VIEWER


def test_a_role_that_there_is_not_is_told(client_of: Any, acme: Tenant, alice: User, bob: User) -> None:
    page = follow(client_of(alice), f"/t/acme/members/{membership_of(acme, bob).pk}/", {"role": "emperor"})
    assert "Choose a role." in page


def test_a_viewer_reads_who_is_a_member_and_changes_nothing(client_of: Any, acme: Tenant, bob: User) -> None:
    page = client_of(bob).get("/t/acme/members/").content.decode()
    assert "alice@acme.example" in page
    assert "Invite somebody" not in page and "Remove" not in page


# --- API keys ---------------------------------------------------------------------------------------------------------
def test_a_key_is_shown_once(client_of: Any, acme: Tenant, alice: User) -> None:
    client = client_of(alice)
    page = client.post("/t/acme/api-keys/", {"name": "CRM", "scopes": ["calls:read"]}).content.decode()
    secret = re.search(r"wl_[\w-]{30,}", page).group()
    again = client.get("/t/acme/api-keys/").content.decode()
    assert secret not in again
    assert "CRM" in again and secret[:8] in again and "Read calls" in again
    with enter_tenant(acme.id):
        assert secret not in str(ApiKey.objects.values().get())


def test_a_key_needs_a_name_and_a_scope(client_of: Any, acme: Tenant, alice: User) -> None:
    answer = client_of(alice).post("/t/acme/api-keys/", {"name": "Kept words", "scopes": []})
    assert answer.status_code == 422
    assert "This field is required." in answer.content.decode() and "Kept words" in answer.content.decode()
    with enter_tenant(acme.id):
        assert not ApiKey.objects.exists()


def test_a_key_is_revoked(client_of: Any, acme: Tenant, alice: User) -> None:
    client = client_of(alice)
    client.post("/t/acme/api-keys/", {"name": "CRM", "scopes": ["calls:read"]})
    with enter_tenant(acme.id):
        key = ApiKey.objects.get()
    page = follow(client, f"/t/acme/api-keys/{key.pk}/revoke/")
    assert "CRM was revoked" in page and "revoked" in page


# --- the audit trail --------------------------------------------------------------------------------------------------
def test_the_trail_says_who_did_what_and_can_be_narrowed(client_of: Any, acme: Tenant, alice: User) -> None:
    client = client_of(alice)
    client.post("/t/acme/api-keys/", {"name": "The CRM", "scopes": ["calls:read"]})
    with enter_tenant(acme.id):
        action = AuditEntry.objects.get(target="The CRM").action
    page = client.get("/t/acme/audit/").content.decode()
    assert "alice@acme.example" in page and "The CRM" in page
    narrowed = client.get("/t/acme/audit/", {"action": action}).content.decode()
    assert "The CRM" in narrowed and narrowed.count("<tr>") == 2
    nothing = client.get("/t/acme/audit/", {"action": "never.done"}).content.decode()
    assert "Nothing of this kind" in nothing


def test_a_long_trail_has_pages(client_of: Any, acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        for number in range(60):
            audit.record(action="pool.changed", target=f"Pool {number}")
    client = client_of(alice)
    first, second = (client.get("/t/acme/audit/", {"page": page}).content.decode() for page in (1, 2))
    assert "Pool 59" in first and "Pool 3<" not in first
    assert "Pool 3<" in second and "Pool 59" not in second
    assert client.get("/t/acme/audit/?page=many").status_code == 200
