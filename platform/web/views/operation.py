"""What load balancers and Prometheus ask the web process."""

from __future__ import annotations

import hmac

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tenants.access import anonymous_allowed, internal_access
from web.dependencies import ask_database, ask_supervisor, ask_valkey, problem_with

log = structlog.get_logger(__name__)

# Pages are served while workers cannot be reached; calls are the gateway's, which has a /healthz of its own.
DEPENDENCIES = {
    "database": (ask_database, False),
    "valkey": (ask_valkey, False),
    "local_supervisor": (ask_supervisor, True),
}


@anonymous_allowed("load balancers do not sign in")
@require_GET
def healthz(request: HttpRequest) -> JsonResponse:
    """Name each dependency and whether it answers; 503 where one does not that pages need."""
    found = {}
    for name, (question, is_optional) in DEPENDENCIES.items():
        problem = problem_with(question)
        found[name] = {"ok": problem is None, "optional": is_optional}
        if problem is not None:
            # The log is told what is wrong: it may hold addresses, and anybody may ask here.
            log.warning("health.dependency_missing", dependency=name, problem=problem)
    ok = all(each["ok"] or each["optional"] for each in found.values())
    return JsonResponse({"ok": ok, "dependencies": found}, status=200 if ok else 503)


@internal_access("Prometheus sends METRICS_TOKEN")
@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    token = settings.METRICS_TOKEN
    given = request.headers.get("Authorization", "")
    if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        return HttpResponse("Send METRICS_TOKEN as Authorization: Bearer.\n", status=401, content_type="text/plain")
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
