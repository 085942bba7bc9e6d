"""`manage.py call`: one real call through the running gateway, spoken by WAV files."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from agents.models import Agent
from provisioning.regions import REGIONS, region_near
from tenants.models import Tenant
from tenants.scope import enter_operator, enter_tenant
from voice.models import Call
from voice.records import call_record, find_call
from voice.tickets import AgentNotPublished, call_address, issue_ticket
from voice.wav_caller import CallFailed, call_with_wavs, cut_into_utterances, read_wav, write_wav

RECORD_SECONDS = 10.0
"""How long the record of an ended call may take to be written; it is a second at most where all is well."""


class Command(BaseCommand):
    help = "Call an agent with WAV files and print the call's record as one JSON object."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--agent", required=True, help="the agent's slug")
        parser.add_argument("--tenant", default="demo", help="its tenant's slug (default: demo)")
        parser.add_argument("--wav", required=True, type=Path, action="append", help="what to say; repeatable")
        parser.add_argument("--out", type=Path, help="where to write what was heard, as a WAV file")
        parser.add_argument("--turns", type=int, help="cut one WAV file at its pauses into so many turns")
        parser.add_argument("--json", action="store_true", help="one line of JSON instead of an indented object")
        parser.add_argument("--gateway", default=settings.GATEWAY_URL, help="the gateway's address")
        parser.add_argument("--region", default="", help="near the caller: pools there are tried first")
        parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for each reply")

    def handle(self, **options: Any) -> None:
        if options["region"] and not region_near(options["region"]):
            raise CommandError(f"There is no region {options['region']!r}: choose one of {', '.join(REGIONS)}.")
        try:
            utterances = _read_utterances(options["wav"], options["turns"])
            tenant_id, ticket = _ticket_for(options["tenant"], options["agent"])
            heard = asyncio.run(
                call_with_wavs(
                    call_address(options["gateway"].rstrip("/"), ticket, region=options["region"]),
                    utterances,
                    reply_timeout_seconds=options["timeout"],
                )
            )
        except (CallFailed, AgentNotPublished) as problem:
            raise CommandError(str(problem)) from problem
        if options["out"]:
            write_wav(options["out"], heard.recording())
        record = _wait_for_record(tenant_id, heard.call_id)
        self.stdout.write(json.dumps(record, ensure_ascii=False, indent=None if options["json"] else 2))


def _read_utterances(paths: list[Path], turns: int | None) -> list[Any]:
    if turns is None:
        return [read_wav(path) for path in paths]
    if len(paths) != 1:
        raise CommandError("--turns cuts one WAV file; with several, each is a turn.")
    if turns < 1:
        raise CommandError("--turns must be 1 or more.")
    return cut_into_utterances(read_wav(paths[0]), turns)


def _ticket_for(tenant_slug: str, agent_slug: str) -> tuple[Any, str]:
    with enter_operator("manage.py call", reason=f"find the tenant {tenant_slug}"):
        tenant = Tenant.objects.filter(slug=tenant_slug).first()
    if tenant is None:
        raise CommandError(f"There is no tenant {tenant_slug}.")
    with enter_tenant(tenant.id):
        agent = Agent.objects.filter(slug=agent_slug).first()
        if agent is None:
            slugs = ", ".join(Agent.objects.order_by("slug").values_list("slug", flat=True)) or "none"
            raise CommandError(f"{tenant.name} has no agent {agent_slug}. It has: {slugs}.")
        return tenant.id, issue_ticket(agent, channel=Call.Channel.COMMAND)


def _wait_for_record(tenant_id: Any, call_id: Any) -> dict[str, Any]:
    """Return the record when the call's end is written; where that takes too long, what there is, with a warning."""
    deadline = time.monotonic() + RECORD_SECONDS
    while True:
        with enter_tenant(tenant_id):
            call = find_call(call_id)
            if not call.is_live or time.monotonic() > deadline:
                if call.is_live:
                    sys.stderr.write("The call's end is not written yet.\n")
                return call_record(call)
        time.sleep(0.05)
