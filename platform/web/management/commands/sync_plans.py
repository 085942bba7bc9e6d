"""`manage.py sync_plans`: bring products, prices, meter and portal at Stripe to what our plans say."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.offering import sync_plans
from billing.stripe_api import BillingRefused
from tenants.scope import enter_operator


class Command(BaseCommand):
    help = "Make or update our plans at Stripe. Safe to repeat; what subscribers pay already stays."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        with enter_operator("manage.py sync_plans", reason="offer the plans at Stripe"):
            try:
                offered = sync_plans()
            except BillingRefused as refusal:
                raise CommandError(str(refusal)) from refusal
        for sentence in offered.made or ["Stripe has all of it already"]:
            self.stdout.write(sentence)
