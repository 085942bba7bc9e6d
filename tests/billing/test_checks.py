"""What `manage.py check --deploy` says of billing."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import checks
from django.test import override_settings

from billing.checks import billing_is_set_up

KEYS = {"STRIPE_SECRET_KEY": "sk_live_x", "STRIPE_WEBHOOK_SECRET": "whsec_x"}


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, ["billing.I001"]),
        (KEYS, []),
        ({**KEYS, "STRIPE_WEBHOOK_SECRET": ""}, ["billing.E001"]),
        ({**KEYS, "PRODUCTION": True, "STRIPE_API_URL": "http://stripe.example"}, ["billing.E002"]),
        ({**KEYS, "BILLING_GRACE_DAYS": -1}, ["billing.E003"]),
    ],
)
def test_it_says_what_is_missing(settings: dict[str, Any], found: list[str]) -> None:
    with override_settings(**settings):
        assert [each.id for each in billing_is_set_up(None)] == found


def test_an_installation_that_bills_nobody_passes() -> None:
    (said,) = billing_is_set_up(None)
    assert said.level < checks.WARNING and "Billing is off" in said.msg
