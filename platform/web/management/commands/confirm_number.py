"""`manage.py confirm_number`: let the calls of a number that a SIP trunk brings come to a tenant that asked for it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.models import Tenant
from tenants.scope import enter_operator
from voice.telephony import numbers
from voice.telephony.models import TelephoneNumber
from voice.telephony.outbound import read_number


class Command(BaseCommand):
    help = "Confirm that a telephone number is a tenant's: its calls come there from now on."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("number", help="with its country: +14155550123")
        parser.add_argument("--tenant", required=True, help="its slug")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            wanted = read_number(options["number"])
        except ValueError as problem:
            raise CommandError(str(problem)) from problem
        with enter_operator("manage.py confirm_number", reason=f"confirm {wanted} for {options['tenant']}"):
            tenant = Tenant.objects.filter(slug=options["tenant"]).first()
            if tenant is None:
                raise CommandError(f"There is no tenant {options['tenant']!r}.")
            number = TelephoneNumber.objects.filter(tenant=tenant, number=wanted).first()
            if number is None:
                raise CommandError(f"{tenant.name} has not asked for {wanted}: add it on its page Telephone first.")
            try:
                numbers.confirm_number(number=number, actor=None)
            except numbers.NumberTaken as problem:
                raise CommandError(str(problem)) from problem
        self.stdout.write(f"{wanted} is confirmed: its calls come to {tenant.name}.")
