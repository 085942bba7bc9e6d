"""`manage.py check_ledgers`: do the ledgers, their seals, the calls and what is added up from them agree?"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.sealing import seal_ledgers
from tenants.models import Tenant
from tenants.scope import enter_operator, enter_tenant
from voice import ledger_days
from voice.days import rebuild_days
from voice.reconciliation import differences


class Command(BaseCommand):
    help = "Compare ledgers, seals, calls and days of every tenant, and tell each difference. Changes no ledger."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", help="its slug; all tenants where none is given")
        parser.add_argument("--rebuild", action="store_true", help="make the days anew from calls and ledgers first")
        parser.add_argument("--json", action="store_true", help="print the differences as a JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        with enter_operator("manage.py check_ledgers", reason="find the tenants"):
            tenants = list(Tenant.objects.filter(**({"slug": options["tenant"]} if options["tenant"] else {})))
        if options["tenant"] and not tenants:
            raise CommandError(f"There is no tenant {options['tenant']!r}.")
        found: list[dict[str, str]] = []
        seal_ledgers()
        for tenant in tenants:
            with enter_tenant(tenant.id):
                if options["rebuild"]:
                    rebuild_days()
                    ledger_days.rebuild()
                else:
                    ledger_days.roll_up()
                found += [{"tenant": tenant.slug, **dataclasses.asdict(each)} for each in differences()]
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=1))
        else:
            for each in found:
                self.stdout.write(f"{each['tenant']}: {each['what']}: {each['sentence']}.")
        if found:
            raise CommandError(f"{len(found)} differences.")
        if not options["json"]:
            self.stdout.write(f"All is in agreement, in {len(tenants)} tenants.")
