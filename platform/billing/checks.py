"""System checks of billing. `manage.py check --deploy` tells them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks

from billing.stripe_api import is_on


@checks.register("billing", deploy=True)
def billing_is_set_up(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    if not is_on():
        return [
            checks.Info(
                "Billing is off: tenants are not charged, and plans are given by hand in the admin.",
                hint="Set STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET to bill with Stripe: docs/billing.md.",
                id="billing.I001",
            )
        ]
    found: list[checks.CheckMessage] = []
    if not settings.STRIPE_WEBHOOK_SECRET:
        found.append(
            checks.Error(
                "STRIPE_WEBHOOK_SECRET is not set: nothing would be heard of payments.",
                hint="Make a webhook endpoint at Stripe for PUBLIC_URL/stripe/events/ and set its signing secret.",
                id="billing.E001",
            )
        )
    if settings.PRODUCTION and not settings.STRIPE_API_URL.startswith("https://"):
        found.append(
            checks.Error(
                "STRIPE_API_URL is not secure: the key would be sent in the clear.",
                hint="Unset it.",
                id="billing.E002",
            )
        )
    if settings.BILLING_GRACE_DAYS < 0:
        found.append(checks.Error("BILLING_GRACE_DAYS is negative.", hint="0 gives no grace.", id="billing.E003"))
    return found
