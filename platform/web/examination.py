"""What `manage.py doctor` looks at, in the order in which things depend on each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.core import checks as system_checks
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from billing.models import Plan
from billing.stripe_api import client, is_on, speaking_to_stripe
from config.celery import app as celery
from config.checks import role_problems, secrets_are_set
from gpu_workers.cascade.prepare import prepared_folder
from provisioning.backends import make_backend
from provisioning.backends.contract import BackendError
from provisioning.models import Deployment
from tenants.models import Tenant
from tenants.ownership import tenant_owned_models
from tenants.scope import enter_operator
from web.dependencies import (
    NotWorking,
    ask_channel_layer,
    ask_database,
    ask_supervisor,
    ask_valkey,
    fetch_json,
)

PING_SECONDS = 3.0
SESSION_TIMEOUT_MS = 30_000
START = "`make demo` starts everything on one machine; docs/operations.md lists the processes."
ROLES_ADVICE = "docs/operations.md says how the three roles are made."


@dataclasses.dataclass(frozen=True)
class Finding:
    """`state`: ok, warning (it works, but not as it should), wrong, or skipped (what it needs is wrong)."""

    name: str
    state: str
    sentence: str
    advice: str = ""

    @property
    def is_wrong(self) -> bool:
        return self.state == "wrong"

    def as_document(self) -> dict[str, str]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Question:
    """`ask` returns what it found in a few words, or raises; `needs` names questions that must be answered before."""

    name: str
    ask: Callable[[], str]
    advice: str
    needs: tuple[str, ...] = ()


def examine() -> Iterator[Finding]:
    """Yield the findings one by one, as they are made."""
    yield from _settings()
    fine: set[str] = set()
    for question in QUESTIONS:
        missing = [name for name in question.needs if name not in fine]
        if missing:
            yield Finding(question.name, "skipped", f"needs {' and '.join(missing)}")
            continue
        finding = _answer(question)
        if not finding.is_wrong:
            fine.add(question.name)
        yield finding


def _answer(question: Question) -> Finding:
    try:
        return Finding(question.name, "ok", question.ask())
    except Exception as problem:
        # Whatever it is, it is the finding; the questions after it are still worth asking.
        sentence = str(problem).strip().splitlines()
        return Finding(question.name, "wrong", sentence[0] if sentence else type(problem).__name__, question.advice)


def _settings() -> Iterator[Finding]:
    found = system_checks.run_checks(include_deployment_checks=settings.PRODUCTION)
    if not settings.PRODUCTION:
        found += secrets_are_set(None)
    for message in found:
        state = "wrong" if message.is_serious() else "warning" if message.level >= system_checks.WARNING else "ok"
        yield Finding("settings", state, f"{message.msg} ({message.id})", message.hint or "")
    if not any(message.is_serious() for message in found):
        yield Finding("settings", "ok", f"a {settings.ENVIRONMENT} installation at {settings.PUBLIC_URL}")


def ask_role(alias: str) -> str:
    found = ask_database(alias)
    for problem in role_problems(alias):
        raise NotWorking(problem.msg)
    return f"{found}, as {connections[alias].settings_dict['USER']}, which owns nothing and is bound by policies"


def ask_migrations() -> str:
    executor = MigrationExecutor(connections["owner"])
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        raise NotWorking(f"{len(missing)} migrations are not applied, the first is {missing[0][0]}.")
    return f"all {len(executor.loader.applied_migrations)} are applied"


def ask_isolation() -> str:
    """Look at every tenant-owned table for row-level security that binds its owner too."""
    tables = {Tenant._meta.db_table, *(model._meta.db_table for model in tenant_owned_models())}
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND relnamespace = 'public'::regnamespace "
            "AND relrowsecurity AND relforcerowsecurity",
            [list(tables)],
        )
        guarded = {name for (name,) in cursor.fetchall()}
    if unguarded := sorted(tables - guarded):
        raise NotWorking(f"Row-level security is not on for {', '.join(unguarded)}.")
    return f"row-level security guards all {len(tables)} tables of tenants"


def ask_tasks() -> str:
    answers = celery.control.ping(timeout=PING_SECONDS, limit=1)
    if not answers:
        raise NotWorking(f"No Celery worker answered within {PING_SECONDS:g} s.")
    return f"{next(iter(answers[0]))} answers"


def ask_gateway() -> str:
    health = fetch_json(f"{settings.GATEWAY_URL.replace('ws', 'http', 1)}/healthz")
    return f"takes calls at {settings.GATEWAY_URL}, {health['calls']} live"


def ask_web() -> str:
    fetch_json(f"{settings.INTERNAL_URL}/healthz")
    return f"answers at {settings.INTERNAL_URL}"


def ask_models() -> str:
    folder = prepared_folder()
    if not folder.exists():
        raise NotWorking(f"The speech models are not prepared: {folder} is missing.")
    return f"prepared in {folder}"


def ask_worker() -> str:
    """Reserve a place on a container as a call does, and give it back."""
    with enter_operator("manage.py doctor", reason="reserve a session to see that workers can be reached"):
        deployment = Deployment.objects.ready().order_by("-ready_at").first()
    if deployment is None:
        raise NotWorking("No pool has a ready deployment.")
    return async_to_sync(_reserve_and_give_back)(deployment)


async def _reserve_and_give_back(deployment: Deployment) -> str:
    try:
        async with make_backend(deployment.backend) as backend:
            granted = await backend.start_session(deployment.ref, timeout_ms=SESSION_TIMEOUT_MS)
            await backend.end_session(deployment.ref, granted.ref)
    except BackendError as problem:
        raise NotWorking(str(problem)) from problem
    return f"{granted.container or deployment.name} gave a place after {granted.reserve_ms} ms"


def ask_language_model() -> str:
    if not settings.LLM_BASE_URL:
        return "none is set: agents follow the questions of their templates"
    headers = {"Authorization": f"Bearer {settings.LLM_API_KEY}"} if settings.LLM_API_KEY else {}
    listed: dict[str, Any] = fetch_json(f"{settings.LLM_BASE_URL.rstrip('/')}/models", headers=headers)
    names = [each.get("id") for each in listed.get("data", [])]
    if settings.LLM_MODEL and names and settings.LLM_MODEL not in names:
        raise NotWorking(f"{settings.LLM_BASE_URL} has no model {settings.LLM_MODEL}.")
    return f"{settings.LLM_MODEL or 'its default model'} at {settings.LLM_BASE_URL}"


def ask_billing() -> str:
    if not is_on():
        return "off: no tenant is charged"
    with speaking_to_stripe():
        client().v1.billing.meters.list({"limit": 1})
    priced = Plan.objects.filter(monthly_price_cents__gt=0)
    if missing := [plan.name for plan in priced if not plan.is_for_sale]:
        raise NotWorking(f"Stripe does not know the prices of {', '.join(missing)}.")
    return f"{len(priced)} plans are for sale at {settings.STRIPE_API_URL}"


QUESTIONS = (
    Question("database", lambda: ask_role("default"), f"Is DATABASE_URL right, and its server up? {ROLES_ADVICE}"),
    Question("database operator", lambda: ask_role("operator"), f"Is DATABASE_OPERATOR_URL right? {ROLES_ADVICE}"),
    Question("database owner", lambda: ask_database("owner"), f"Is DATABASE_OWNER_URL right? {ROLES_ADVICE}"),
    Question("migrations", ask_migrations, "Run `manage.py migrate`.", needs=("database owner",)),
    Question("isolation", ask_isolation, "Run `manage.py migrate`.", needs=("database", "migrations")),
    Question("valkey", ask_valkey, "Is REDIS_URL right, and its server up?"),
    Question("live updates", ask_channel_layer, "May the user of REDIS_URL publish and subscribe?", needs=("valkey",)),
    Question("tasks", ask_tasks, "Start `celery -A config worker` and `celery -A config beat`.", needs=("valkey",)),
    Question("web", ask_web, f"Start the web server. {START}"),
    Question("gateway", ask_gateway, f"Start the gateway. {START}"),
    Question("speech models", ask_models, "Run `python -m gpu_workers.cascade.prepare`, or `make setup`."),
    Question("local supervisor", ask_supervisor, f"Start the local supervisor. {START}"),
    Question(
        "worker",
        ask_worker,
        "Look at the pools on the fleet page, and at the supervisor's log.",
        needs=("database operator", "migrations", "local supervisor"),
    ),
    Question("language model", ask_language_model, "Are LLM_BASE_URL, LLM_API_KEY and LLM_MODEL right?"),
    Question(
        "billing",
        ask_billing,
        "Is STRIPE_SECRET_KEY right? Run `manage.py sync_plans`: docs/billing.md.",
        needs=("database", "migrations"),
    ),
)
