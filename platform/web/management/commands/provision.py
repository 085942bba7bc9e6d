"""`manage.py provision`: make or find a tenant's pool, and stay until calls may go to it, or until it has stopped."""

from __future__ import annotations

import json
import time
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from provisioning import applying
from provisioning.backends import BACKENDS
from provisioning.models import Deployment, Pool
from provisioning.models.pools import Worker
from provisioning.pools import change_pool, create_pool, set_enabled
from provisioning.regions import REGIONS
from tenants.models import Tenant
from tenants.scope import enter_operator, enter_tenant
from web.management.commands.deployments import document_of

LOOK_SECONDS = 1.0
SETTINGS = ("gpu", "checkpoint", "image", "sessions_per_container", "min_containers", "max_containers", "snapshots")


class Command(BaseCommand):
    help = "Deploy a pool of workers for a tenant, prime it, and print the deployment."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", required=True, help="its slug")
        parser.add_argument("--worker", required=True, choices=Worker.values)
        parser.add_argument("--backend", default="modal", choices=list(BACKENDS))
        parser.add_argument("--region", help="where (default: us-east, or this machine for the local backend)")
        parser.add_argument("--gpu", help="one, or several by preference: L4,A10")
        parser.add_argument("--checkpoint", help="weights other than the worker's own")
        parser.add_argument("--image", help="name and version of the worker's image")
        parser.add_argument("--sessions-per-container", type=int)
        parser.add_argument("--min-containers", type=int)
        parser.add_argument("--max-containers", type=int)
        parser.add_argument("--no-snapshots", dest="snapshots", action="store_const", const=False)
        parser.add_argument(
            "--off", action="store_true", help="turn it off instead: calls go on to their end, then it stops"
        )
        parser.add_argument("--timeout", type=float, default=900.0, help="seconds to wait until that is done")
        parser.add_argument("--json", action="store_true", help="print the deployment as a JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        region = options["region"] or ("local" if options["backend"] == "local" else "us-east")
        if region not in REGIONS:
            raise CommandError(f"There is no region {region!r}: choose one of {', '.join(REGIONS)}.")
        settings = {name: options[name] for name in SETTINGS if options[name] is not None}
        if options["off"]:
            return self._turn_off(self._find(options, region), options["timeout"])
        try:
            pool = self._pool(options, region, settings)
        except ValidationError as problem:
            raise CommandError(" ".join(problem.messages)) from problem
        deployment = self._wait(pool, options["timeout"])
        with enter_operator("manage.py provision", reason="show the deployment"):
            document = document_of(Deployment.objects.select_related("pool", "pool__tenant").get(pk=deployment.pk))
        if options["json"]:
            self.stdout.write(json.dumps(document, indent=1))
        else:
            boots = ", ".join(document["first_boots"]) or "none seen"
            self.stdout.write(f"{document['name']} is ready. First boots: {boots}.")

    def _tenant(self, slug: str) -> Tenant:
        with enter_operator("manage.py provision", reason="find the tenant"):
            tenant = Tenant.objects.filter(slug=slug).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {slug!r}.")
        return tenant

    def _find(self, options: dict[str, Any], region: str) -> Pool:
        """Return the tenant's pool of this worker and region as it is."""
        tenant = self._tenant(options["tenant"])
        with enter_tenant(tenant.id):
            pool = Pool.objects.filter(worker=options["worker"], region=region).first()
        if pool is None:
            raise CommandError(f"{tenant.name} has no pool of {options['worker']} in {region}.")
        return pool

    def _turn_off(self, pool: Pool, seconds: float) -> None:
        """Drain the pool and wait until nothing of it stands."""
        with enter_tenant(pool.tenant_id):
            set_enabled(pool=pool, actor=None, enabled=False)
        deadline = time.monotonic() + seconds
        while True:
            applying.apply_pool(pool.tenant_id, pool.pk)
            with enter_tenant(pool.tenant_id):
                left = ", ".join(f"{each.name} is {each.state}" for each in pool.deployments.live())
            if not left:
                self.stdout.write(f"{pool} is off, and nothing of it stands.")
                return
            if time.monotonic() > deadline:
                raise CommandError(f"It has not stopped after {seconds:.0f} s: {left}. Beat goes on with it.")
            time.sleep(LOOK_SECONDS)

    def _pool(self, options: dict[str, Any], region: str, settings: dict[str, Any]) -> Pool:
        """Return the tenant's pool of this worker and region, turned on and with these settings."""
        tenant = self._tenant(options["tenant"])
        with enter_tenant(tenant.id):
            pool = Pool.objects.filter(worker=options["worker"], region=region).first()
            if pool is None:
                return create_pool(
                    actor=None, worker=options["worker"], region=region, backend=options["backend"], **settings
                )
            if pool.backend != options["backend"]:
                raise CommandError(f"{pool} runs on the backend {pool.backend}, not on {options['backend']}.")
            change_pool(pool=pool, actor=None, **settings)
            return set_enabled(pool=pool, actor=None, enabled=True)

    def _wait(self, pool: Pool, seconds: float) -> Deployment:
        """Apply the pool until it is ready, telling each state that it comes through."""
        deadline, told = time.monotonic() + seconds, ""
        self.stderr.write(f"{pool}: deploying and priming; the first boots load everything.")
        while True:
            applying.apply_pool(pool.tenant_id, pool.pk)
            with enter_tenant(pool.tenant_id):
                pool = Pool.objects.get(pk=pool.pk)
                hashed = pool.spec().spec_hash()
                deployment = pool.deployments.filter(spec_hash=hashed).order_by("-created_at").first()
            now = self._tell(deployment, told)
            if deployment is not None:
                if deployment.state == Deployment.State.READY:
                    return deployment
                if deployment.state == Deployment.State.FAILED:
                    raise CommandError(deployment.problem)
            if time.monotonic() > deadline:
                raise CommandError(f"It is not ready after {seconds:.0f} s: {now or 'another process is at it'}.")
            told = now
            time.sleep(LOOK_SECONDS)

    def _tell(self, deployment: Deployment | None, told: str) -> str:
        if deployment is None:
            return told
        boots = ", ".join(deployment.priming.get("boots", []))
        now = " ".join(
            part for part in (str(deployment.state), f"({boots})" if boots else "", deployment.problem) if part
        )
        if now != told:
            self.stderr.write(f"{deployment.name}: {now}")
        return now
