"""Opening an account: a tenant, its first owner and its trial, in one transaction."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.utils import timezone
from django.utils.text import slugify

from billing.models import Plan, Subscription
from tenants import audit
from tenants.lookups import slug_is_taken
from tenants.models import Membership, Role, Tenant, User
from tenants.scope import enter_tenant

RESERVED_SLUGS = frozenset({"admin", "api", "demo-house", "fleet", "internal", "static", "www"})


def open_account(
    *,
    name: str,
    owner: User | None,
    time_zone: str = "UTC",
    plan: str = "trial",
    slug: str | None = None,
    is_house: bool = False,
) -> Tenant:
    """Create a tenant on a plan. `slug`: taken from the name, made unique, where it is not given."""
    tenant_id = uuid.uuid4()
    with enter_tenant(tenant_id):
        tenant = Tenant(
            id=tenant_id, name=name.strip(), slug=slug or _free_slug(name), time_zone=time_zone, is_house=is_house
        )
        tenant.full_clean(validate_unique=False, validate_constraints=False)
        tenant.save(force_insert=True)
        if owner is not None:
            Membership.objects.create(user=owner, role=Role.OWNER)
        chosen = Plan.objects.get(slug=plan)
        Subscription.objects.create(
            plan=chosen,
            status=Subscription.Status.TRIALING if chosen.trial_days else Subscription.Status.ACTIVE,
            trial_ends_at=timezone.now() + timedelta(days=chosen.trial_days) if chosen.trial_days else None,
        )
        audit.record(action="tenant.opened", target=tenant.name, actor=owner, details={"plan": plan})
    return tenant


def _free_slug(name: str) -> str:
    wanted = slugify(name)[:40].strip("-") or "business"
    slug, number = wanted, 1
    while slug in RESERVED_SLUGS or slug_is_taken(slug):
        number += 1
        slug = f"{wanted}-{number}"
    return slug
