"""What a webhook asks before its tenant is known."""

from __future__ import annotations

import uuid

from django.db import connections

from tenants.isolation import Lookup, register_lookup
from tenants.scope import current_alias

TENANT_OF_STRIPE_CUSTOMER = register_lookup(
    Lookup(
        "warmline_tenant_of_stripe_customer",
        arguments="customer varchar",
        returns="uuid",
        body="SELECT tenant_id FROM billing_subscription WHERE customer <> '' AND stripe_customer_id = customer",
    )
)


def tenant_of_stripe_customer(customer_id: str) -> uuid.UUID | None:
    """Return the tenant that a Stripe customer stands for, or None."""
    with connections[current_alias()].cursor() as cursor:
        cursor.execute(f"SELECT {TENANT_OF_STRIPE_CUSTOMER.name}(%s)", (customer_id,))
        return cursor.fetchone()[0]
