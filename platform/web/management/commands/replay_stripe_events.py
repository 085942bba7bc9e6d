"""`manage.py replay_stripe_events`: process stored events again. Safe: Stripe is asked anew."""

from __future__ import annotations

import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing.models import StripeEvent
from billing.webhooks import process_event
from tenants.scope import enter_operator


class Command(BaseCommand):
    help = "Process stored events of Stripe again: those named, those of the last days, or those that wait."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="*", metavar="EVENT", help="evt_…; none: those that were not processed")
        parser.add_argument("--days", type=int, help="all that came in so many days")

    def handle(self, *args: Any, **options: Any) -> None:
        with enter_operator("manage.py replay_stripe_events", reason="find the events"):
            events = StripeEvent.objects.order_by("created_at", "pk")
            if options["ids"]:
                events = events.filter(pk__in=options["ids"])
            elif options["days"]:
                events = events.filter(received_at__gt=timezone.now() - datetime.timedelta(days=options["days"]))
            else:
                events = events.unprocessed()
            ids = list(events.values_list("pk", flat=True))
        if missing := set(options["ids"]) - set(ids):
            raise CommandError(f"Not stored here: {', '.join(sorted(missing))}.")
        failed = 0
        for event_id in ids:
            try:
                self.stdout.write(f"{event_id}: {process_event(event_id)}")
            except Exception as problem:
                failed += 1
                self.stderr.write(f"{event_id}: {problem}")
        if failed:
            raise CommandError(f"{failed} of {len(ids)} could not be processed.")
