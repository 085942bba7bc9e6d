"""A tenant's name and its members: inviting, accepting, changing roles, leaving; and API keys."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.utils import timezone

from tenants import audit
from tenants.lookups import find_invitation
from tenants.models import ApiKey, Invitation, Membership, Role, Tenant, User, hash_secret
from tenants.scope import current_alias, enter_tenant


class NotPossible(ValueError):
    """A journey is refused. The sentence may be shown to who asked for it."""


def rename(tenant: Tenant, name: str, *, actor: User) -> None:
    """Call the entered tenant something else; its address stays."""
    before, tenant.name = tenant.name, name
    tenant.save(update_fields=["name"])
    audit.record(action="tenant.renamed", target=tenant.slug, actor=actor, details={"from": before, "to": name})


def invite(*, tenant: Tenant, email: str, role: Role, invited_by: User) -> Invitation:
    """Invite somebody by e-mail; an open invitation to the same address is replaced.

    Raises:
        NotPossible: they are a member already, or the role is above the inviter's.
    """
    email = email.strip().lower()
    _check_may_grant(invited_by, role)
    if Membership.objects.filter(user__email__iexact=email).exists():
        raise NotPossible(f"{email} is a member already.")
    Invitation.objects.filter(email__iexact=email, accepted_at=None).delete()
    token = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(email=email, role=role, token_hash=hash_secret(token), invited_by=invited_by)
    audit.record(action="member.invited", target=email, actor=invited_by, details={"role": str(role)})
    link = f"{settings.PUBLIC_URL}/invitations/{token}/"
    subject = f"{invited_by.display_name} invites you to {tenant.name} on Warmline"
    body = f"You are invited to join {tenant.name} as {role.label.lower()}.\n\n{link}\n\nThe link works for 7 days.\n"
    transaction.on_commit(
        lambda: send_mail(subject, body, None, [email], fail_silently=False), using=current_alias(), robust=True
    )
    return invitation


def accept_invitation(*, token: str, user: User) -> Tenant:
    """Make the user a member by an invitation's secret.

    Raises:
        NotPossible: the invitation is unknown, expired, used, or was sent to another address.
    """
    found = find_invitation(token)
    if found is None:
        raise NotPossible("This invitation is not known: ask for a new one.")
    tenant_id, invitation_id, _ = found
    with enter_tenant(tenant_id):
        invitation = Invitation.objects.select_for_update().get(pk=invitation_id)
        if not invitation.is_open:
            raise NotPossible("This invitation was used or has expired: ask for a new one.")
        if invitation.email.lower() != user.email.lower():
            raise NotPossible(f"This invitation was sent to {invitation.email}: sign in with that address.")
        Membership.objects.get_or_create(user=user, defaults={"role": invitation.role, "tenant_id": tenant_id})
        invitation.accepted_at = timezone.now()
        invitation.save(update_fields=["accepted_at"])
        audit.record(action="member.joined", target=user.email, actor=user, details={"role": invitation.role})
        return Tenant.objects.get(pk=tenant_id)


def change_role(*, membership: Membership, role: Role, actor: User) -> None:
    """Give a member another role.

    Raises:
        NotPossible: the tenant would be left without an owner, or a role is above the actor's.
    """
    _check_may_grant(actor, role)
    _check_may_grant(actor, Role(membership.role))
    if membership.role == Role.OWNER and role != Role.OWNER:
        _check_another_owner(membership)
    before, membership.role = membership.role, role
    membership.save(update_fields=["role"])
    audit.record(
        action="member.role_changed",
        target=membership.user.email,
        actor=actor,
        details={"from": before, "to": str(role)},
    )


def remove_member(*, membership: Membership, actor: User) -> None:
    """End a membership.

    Raises:
        NotPossible: it is the last owner's, or above the actor's role.
    """
    if membership.user_id != actor.pk:
        _check_may_grant(actor, Role(membership.role))
    if membership.role == Role.OWNER:
        _check_another_owner(membership)
    audit.record(action="member.removed", target=membership.user.email, actor=actor)
    membership.delete()


def create_api_key(*, name: str, scopes: list[str], actor: User) -> tuple[ApiKey, str]:
    """Return a new API key and its secret, which is never shown again.

    Raises:
        NotPossible: no scope, or an unknown one.
    """
    if not scopes or set(scopes) - set(ApiKey.Scope.values):
        raise NotPossible("Choose what the key may do.")
    secret = ApiKey.generate_secret()
    key = ApiKey.objects.create(
        name=name, scopes=sorted(scopes), prefix=secret[:8], key_hash=hash_secret(secret), created_by=actor
    )
    audit.record(action="api_key.created", target=name, actor=actor, details={"scopes": sorted(scopes)})
    return key, secret


def revoke_api_key(*, key: ApiKey, actor: User) -> None:
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
        audit.record(action="api_key.revoked", target=key.name, actor=actor)


def _check_may_grant(actor: User, role: Role) -> None:
    membership = Membership.objects.filter(user=actor).first()
    if membership is None or not membership.may(role):
        raise NotPossible(f"Only somebody with the role {role.label} can do this.")


def _check_another_owner(membership: Membership) -> None:
    # The lock keeps two owners from leaving each other alone at the same moment.
    owners = list(Membership.objects.owners().select_for_update().values_list("pk", flat=True))
    if owners == [membership.pk]:
        raise NotPossible("A tenant needs an owner: make somebody else an owner first.")
