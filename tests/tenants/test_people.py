"""Inviting, joining, changing roles, leaving; and API keys."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from tenants import people
from tenants.lookups import find_api_key, memberships_of
from tenants.models import ApiKey, AuditEntry, Invitation, Membership, Role, Tenant, User
from tenants.scope import enter_tenant


def invite(tenant: Tenant, inviter: User, email: str = "dora@acme.example", role: Role = Role.DEVELOPER) -> str:
    """Invite somebody and return the secret from the mail."""
    with enter_tenant(tenant.id):
        people.invite(tenant=tenant, email=email, role=role, invited_by=inviter)
    return re.search(r"/invitations/([^/]+)/", mail.outbox[-1].body).group(1)


def test_an_invited_person_joins_with_the_role_they_were_given(acme: Tenant, alice: User) -> None:
    token = invite(acme, alice)
    dora = User.objects.create_user("dora@acme.example")
    assert people.accept_invitation(token=token, user=dora) == acme
    assert [(each.slug, each.role) for each in memberships_of(dora.pk)] == [("acme", Role.DEVELOPER)]
    with enter_tenant(acme.id):
        assert set(AuditEntry.objects.values_list("action", flat=True)) >= {"member.invited", "member.joined"}


def test_the_secret_of_an_invitation_is_not_stored(acme: Tenant, alice: User) -> None:
    token = invite(acme, alice)
    with enter_tenant(acme.id):
        assert token not in str(Invitation.objects.values().get())


def test_an_invitation_works_once_in_time_and_for_its_address_only(
    acme: Tenant, alice: User, charlie: User, rival: Tenant
) -> None:
    token = invite(acme, alice)
    with pytest.raises(people.NotPossible, match="sent to dora@acme.example"):
        people.accept_invitation(token=token, user=charlie)
    dora = User.objects.create_user("dora@acme.example")
    with enter_tenant(acme.id):
        Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(people.NotPossible, match="expired"):
        people.accept_invitation(token=token, user=dora)
    with enter_tenant(acme.id):
        Invitation.objects.update(expires_at=timezone.now() + timedelta(days=1))
    people.accept_invitation(token=token, user=dora)
    with pytest.raises(people.NotPossible, match="was used"):
        people.accept_invitation(token=token, user=dora)
    with pytest.raises(people.NotPossible, match="not known"):
        people.accept_invitation(token="made-up", user=dora)


def test_nobody_grants_a_role_above_their_own(acme: Tenant, alice: User, bob: User) -> None:
    with enter_tenant(acme.id):
        member = Membership.objects.get(user=bob)
        people.change_role(membership=member, role=Role.ADMIN, actor=alice)
        with pytest.raises(people.NotPossible, match="Owner"):
            people.invite(tenant=acme, email="eve@acme.example", role=Role.OWNER, invited_by=bob)
        with pytest.raises(people.NotPossible, match="Owner"):
            people.change_role(membership=Membership.objects.get(user=alice), role=Role.VIEWER, actor=bob)


def test_a_tenant_keeps_an_owner(acme: Tenant, alice: User, bob: User) -> None:
    with enter_tenant(acme.id):
        mine = Membership.objects.get(user=alice)
        with pytest.raises(people.NotPossible, match="needs an owner"):
            people.change_role(membership=mine, role=Role.VIEWER, actor=alice)
        with pytest.raises(people.NotPossible, match="needs an owner"):
            people.remove_member(membership=mine, actor=alice)
        people.change_role(membership=Membership.objects.get(user=bob), role=Role.OWNER, actor=alice)
        people.remove_member(membership=mine, actor=alice)
        assert [member.user for member in Membership.objects.all()] == [bob]


def test_a_member_cannot_be_invited_again(acme: Tenant, alice: User) -> None:
    with pytest.raises(people.NotPossible, match="member already"):
        invite(acme, alice, email="BOB@acme.example")


def test_an_api_key_is_shown_once_found_by_its_secret_and_refused_when_revoked(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        key, secret = people.create_api_key(name="CRM", scopes=[ApiKey.Scope.CALL], actor=alice)
        assert secret not in str(ApiKey.objects.values().get())
    assert find_api_key(secret) == (acme.id, key.pk, ["calls:create"])
    assert find_api_key(secret + "x") is None
    with enter_tenant(acme.id):
        people.revoke_api_key(key=key, actor=alice)
    assert find_api_key(secret) is None


def test_an_api_key_needs_a_scope(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        for scopes in ([], ["everything"]):
            with pytest.raises(people.NotPossible, match="what the key may do"):
                people.create_api_key(name="CRM", scopes=scopes, actor=alice)
