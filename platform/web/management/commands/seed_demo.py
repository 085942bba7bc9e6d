"""`manage.py seed_demo`: an operator, businesses with agents, and a month of calls."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from web.seeding import seed


class Command(BaseCommand):
    help = "Fill an installation for a demo. What is there already stays as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-history", action="store_true", help="without the month of calls")
        parser.add_argument("--migrate", action="store_true", help="bring the database up to date first")

    def handle(self, *args: Any, **options: Any) -> None:
        password = os.environ.get("WARMLINE_DEMO_PASSWORD")
        if not password:
            raise CommandError("Set WARMLINE_DEMO_PASSWORD: the three people of the demo sign in with it.")
        if settings.PRODUCTION:
            raise CommandError("This is a production installation: it gets no demo accounts.")
        if options["migrate"]:
            call_command("migrate", verbosity=0)
        seed(password, history=not options["no_history"], say=self.stdout.write)
