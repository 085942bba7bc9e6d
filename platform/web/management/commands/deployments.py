"""`manage.py deployments`: what stands, how it scales, how it has come up, and what it has cost today."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from provisioning.backends import make_backend
from provisioning.backends.contract import BackendError
from provisioning.importing import bill_problems
from provisioning.models import BilledHour, Container, CostEntry, Deployment, Pool
from tenants.scope import enter_operator


class Command(BaseCommand):
    help = "List the deployments of all tenants."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print them as a JSON list")
        parser.add_argument("--all", action="store_true", help="also those that have stopped or failed")

    def handle(self, *args: Any, **options: Any) -> None:
        with enter_operator("manage.py deployments", reason="list what stands"):
            chosen = Deployment.objects.select_related("pool", "pool__tenant").order_by("pool_id", "-created_at")
            documents = [document_of(each) for each in (chosen if options["all"] else chosen.live())]
            problems = bill_problems()
        if options["json"]:
            self.stdout.write(json.dumps(documents, indent=1))
            return
        for problem in problems:
            self.stderr.write(problem)
        for document in documents:
            self.stdout.write(_line(document))
        if not documents:
            self.stdout.write("Nothing is deployed.")


def document_of(deployment: Deployment) -> dict[str, Any]:
    """Return how a deployment stands. JSON values only; the backend is asked, and may say why it cannot tell."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    actual: dict[str, Any] | None = None
    containers, problem = None, deployment.problem
    if deployment.state in (Deployment.State.READY, Deployment.State.DRAINING):
        try:
            report = async_to_sync(_status)(deployment)
            actual = dataclasses.asdict(report.autoscaling) if report.autoscaling else None
            containers = Counter(str(each.state) for each in report.containers)
        except BackendError as unreachable:
            problem = unreachable.sentence
    boots = Container.objects.filter(deployment=deployment).exclude(boot="").values_list("boot", flat=True)
    costs = CostEntry.objects.since(midnight).filter(deployment_id=deployment.pk)
    bill = BilledHour.objects.filter(deployment=deployment).by_deployment().get(deployment.pk, {})
    return {
        "name": deployment.name,
        "tenant": deployment.pool.tenant.slug,
        "worker": deployment.worker,
        "backend": deployment.backend,
        "region": deployment.region,
        "spec": deployment.spec_hash,
        "state": str(deployment.state),
        "problem": problem,
        "desired_autoscaling": dataclasses.asdict(deployment.pool.autoscaling),
        "actual_autoscaling": actual,
        "warm_hours": _warm_hours(deployment.pool),
        "containers": containers,
        "first_boots": deployment.priming.get("boots", []),
        "boots": Counter(boots),
        "cost_today_nano_dollars": costs.total(),
        "billed_hours": bill.get("hours", 0),
        "billed_nano_dollars": bill.get("billed"),
        "estimated_nano_dollars": bill.get("estimated"),
    }


def _warm_hours(pool: Pool) -> dict[str, Any] | None:
    """Return a pool's windows, which of them holds now, and what changes next; None where it has none."""
    if not pool.warm_hours:
        return None
    now = timezone.now()
    held, change = pool.schedule.window_at(now), pool.schedule.next_change(now)
    return {
        "time_zone": pool.tenant.time_zone,
        "windows": pool.warm_hours,
        "now": held and held.to_document(),
        "next_change": change and {"at": change[0].isoformat(), **change[1]._asdict()},
    }


async def _status(deployment: Deployment) -> Any:
    async with make_backend(deployment.backend) as backend:
        return await backend.status(deployment.ref)


def _line(document: dict[str, Any]) -> str:
    desired, actual = document["desired_autoscaling"], document["actual_autoscaling"] or {}
    limits = ", ".join(
        f"{name.split('_')[0]} {wanted}" + ("" if actual.get(name, wanted) == wanted else f" (is {actual[name]})")
        for name, wanted in desired.items()
    )
    dollars = document["cost_today_nano_dollars"] / 1e9
    containers = ", ".join(f"{count} {state}" for state, count in (document["containers"] or {}).items()) or "none"
    boots = ", ".join(document["first_boots"]) or "none seen"
    whose = " ".join(document[name] for name in ("tenant", "worker", "region"))
    parts = [
        f"{document['state']:<9} {whose} ({document['backend']})",
        f"          {document['name']}",
        f"          {limits}; containers: {containers}; first boots: {boots}; ${dollars:.4f} today",
    ]
    if hours := document["billed_hours"]:
        billed, estimated = document["billed_nano_dollars"] / 1e9, document["estimated_nano_dollars"] / 1e9
        plural = "" if hours == 1 else "s"
        parts.append(f"          billed ${billed:.4f} for {hours} hour{plural}, estimated ${estimated:.4f}")
    if (warm := document["warm_hours"]) and (change := warm["next_change"]):
        parts.append(f"          warm hours: {change['min_containers']} warm from {change['at']}")
    return "\n".join([*parts, f"          {document['problem']}"] if document["problem"] else parts)
