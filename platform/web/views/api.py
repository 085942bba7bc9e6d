"""What programs may do with an API key: place calls, and read them. `docs/api.md` shows each with an example."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_GET, require_POST

from agents.models import Agent
from provisioning.regions import REGIONS, region_near
from tenants.access import ApiRequest, api_access, refuse
from tenants.models import ApiKey
from voice.models import TICKET_SECONDS, Call
from voice.records import call_record, call_summary, find_call
from voice.telephony.models import TelephoneLeg, TelephoneNumber
from voice.telephony.outbound import CallNotPlaced, leg_document, numbers_to_call_from, place_call
from voice.tickets import AgentNotPublished, call_address, issue_ticket

MOST_CALLS = 100
MAX_BODY_BYTES = 16 * 1024
LONGEST_CALL_SECONDS = 3600


class BadRequest(ValueError):
    """A program sent what is not understood. The sentence says what."""


@api_access(ApiKey.Scope.READ)
@require_GET
def calls(request: ApiRequest) -> JsonResponse:
    """Answer with calls, newest first: `agent`, `before` (a time) and `limit` (up to 100) choose among them."""
    try:
        before, limit = _read_before(request), _read_limit(request)
    except BadRequest as problem:
        return refuse(400, "bad_request", str(problem))
    found = Call.objects.select_related("agent", "version")
    if agent := request.GET.get("agent"):
        found = found.filter(agent__slug=agent)
    if before is not None:
        found = found.filter(started_at__lt=before)
    page = list(found.order_by("-started_at")[: limit + 1])
    earliest = page[limit - 1].started_at.isoformat() if len(page) > limit else None
    return JsonResponse({"calls": [call_summary(each) for each in page[:limit]], "before": earliest})


@api_access(ApiKey.Scope.READ)
@require_GET
def call(request: ApiRequest, call_id: uuid.UUID) -> JsonResponse:
    """Answer with all that is known of one call."""
    try:
        return JsonResponse(call_record(find_call(call_id)))
    except Call.DoesNotExist:
        raise Http404 from None


@api_access(ApiKey.Scope.CALL)
@require_POST
def tickets(request: ApiRequest, agent_slug: str) -> JsonResponse:
    """Make a ticket for one call. The body may have `origin` (a page), `max_seconds` and `region`, or be empty."""
    agent = get_object_or_404(Agent, slug=agent_slug)
    try:
        wanted = _read_ticket(request)
        region = wanted.pop("region")
        ticket = issue_ticket(agent, channel=Call.Channel.API, **wanted)
    except BadRequest as problem:
        return refuse(400, "bad_request", str(problem))
    except AgentNotPublished as problem:
        return refuse(409, "not_published", str(problem))
    address = call_address(settings.GATEWAY_URL, ticket, region=region)
    return JsonResponse({"url": address, "ticket": ticket, "expires_in_seconds": TICKET_SECONDS}, status=201)


@api_access(ApiKey.Scope.CALL)
@require_POST
def telephone_calls(request: ApiRequest, agent_slug: str) -> JsonResponse:
    """Have an agent call a telephone. The body is `{"to": "+1…", "from": "+1…"}`; without `from`, your first number."""
    agent = get_object_or_404(Agent, slug=agent_slug)
    try:
        to, number = _read_telephone_call(request)
        leg = place_call(agent=agent, to=to, number=number, placed_by=None)
    except BadRequest as problem:
        return refuse(400, "bad_request", str(problem))
    except CallNotPlaced as refusal:
        return refuse(409, refusal.code, str(refusal))
    return JsonResponse(leg_document(leg), status=202)


@api_access(ApiKey.Scope.READ)
@require_GET
def telephone_call(request: ApiRequest, leg_id: uuid.UUID) -> JsonResponse:
    """Answer with how a placed call goes: `status`, and `call_id` once somebody has taken it."""
    leg = TelephoneLeg.objects.callers().select_related("agent", "call").filter(pk=leg_id).first()
    if leg is None:
        raise Http404
    return JsonResponse(leg_document(leg))


def _read_telephone_call(request: HttpRequest) -> tuple[str, TelephoneNumber]:
    body = _read_body(request, ("to", "from"))
    if not isinstance(body.get("to"), str):
        raise BadRequest("`to` is a telephone number like +14155550123.")
    numbers = numbers_to_call_from()
    if body.get("from") is not None:
        numbers = numbers.filter(number=str(body["from"]))
    number = numbers.first()
    if number is None:
        raise BadRequest("`from` is one of your numbers, like +14155550123: none is in service.")
    return body["to"], number


def _read_before(request: HttpRequest) -> datetime.datetime | None:
    given = request.GET.get("before")
    if not given:
        return None
    try:
        before = parse_datetime(given.replace(" ", "+"))  # a plus sign that was not escaped
    except ValueError:
        before = None
    if before is None or before.tzinfo is None:
        raise BadRequest("`before` is a time with its offset, like 2026-11-24T09:30:00+00:00.")
    return before


def _read_limit(request: HttpRequest) -> int:
    given = request.GET.get("limit", "20")
    if not given.isdecimal() or not 1 <= int(given) <= MOST_CALLS:
        raise BadRequest(f"`limit` is a number from 1 to {MOST_CALLS}.")
    return int(given)


def _read_ticket(request: HttpRequest) -> dict[str, Any]:
    body = _read_body(request, ("origin", "max_seconds", "region"))
    origin, max_seconds, region = body.get("origin"), body.get("max_seconds"), body.get("region")
    if origin is not None and not (isinstance(origin, str) and origin.startswith(("https://", "http://"))):
        raise BadRequest("`origin` is an address like https://www.example.com.")
    if max_seconds is not None and not (type(max_seconds) is int and 1 <= max_seconds <= LONGEST_CALL_SECONDS):
        raise BadRequest(f"`max_seconds` is a number from 1 to {LONGEST_CALL_SECONDS}.")
    if region is not None and not (isinstance(region, str) and region_near(region)):
        raise BadRequest(f"`region` is one of {', '.join(REGIONS)}, or a country's code.")
    return {"origin": origin, "max_seconds": max_seconds, "region": region or ""}


def _read_body(request: HttpRequest, known: tuple[str, ...]) -> dict[str, Any]:
    if len(request.body) > MAX_BODY_BYTES:
        raise BadRequest("The body is too long.")
    try:
        body = json.loads(request.body or b"{}")
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(body, dict) or set(body) - set(known):
        *first, last = (f"`{name}`" for name in known)
        raise BadRequest(f"The body is an object that may have {', '.join(first)} and {last}.")
    return body
