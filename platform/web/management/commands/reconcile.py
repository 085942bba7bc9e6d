"""`manage.py reconcile`: compare what runs with what is wanted, and mend the difference. Beat does so all the time."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from provisioning import applying, reconciling


class Command(BaseCommand):
    help = "Bring all pools about, and stop what nobody wants; with --dry-run, only say what differs."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="change nothing")
        parser.add_argument("--json", action="store_true", help="print the differences as a JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        found = reconciling.differences()
        if options["json"]:
            self.stdout.write(json.dumps([dataclasses.asdict(each) for each in found], indent=1))
        else:
            for each in found:
                self.stdout.write(f"{each.what} {each.sentence}.")
            if not found:
                self.stdout.write("All is as it is wanted.")
        if not options["dry_run"]:
            for tenant_id, pool_id in reconciling.reconcile():
                applying.apply_pool(tenant_id, pool_id)
