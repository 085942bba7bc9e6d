"""`manage.py doctor`: is everything there that a call needs? One line each, with what to do where it is not."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from web.examination import Finding, examine
from web.modal_examination import examine_modal


class Command(BaseCommand):
    help = "Check the settings, and reach the database, Valkey, tasks, gateway, supervisor, a worker, and Modal."
    requires_system_checks: list[str] = []  # They are among its findings.

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the findings as a JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = []
        for finding in chain(examine(), examine_modal()):
            findings.append(finding)
            if not options["json"]:
                self._show(finding)
        if options["json"]:
            self.stdout.write(json.dumps([finding.as_document() for finding in findings], indent=1))
        wrong = [finding.name for finding in findings if finding.is_wrong]
        if wrong:
            raise CommandError(f"{len(wrong)} of {len(findings)} checks found something wrong: {', '.join(wrong)}.")

    def _show(self, finding: Finding) -> None:
        style = {"ok": self.style.SUCCESS, "wrong": self.style.ERROR}.get(finding.state, self.style.WARNING)
        self.stdout.write(f"{style(f'{finding.state:<7}')} {finding.name:<20} {finding.sentence}")
        if finding.advice:
            self.stdout.write(f"{'':<28} → {finding.advice}")
