"""The endpoint at which a worker runs an agent's tools while a call lasts."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import structlog
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from agents.tools import ToolContext, ToolResult, run_tool
from content.models import ToolRun
from tenants.access import internal_access
from tenants.scope import atomic, enter_tenant
from voice.call_tokens import read_call_token
from voice.models import Call
from voice.telephony.lines import line_of

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 64 * 1024
# A call that has just ended may still have a booking on its way.
GRACE_SECONDS = 5.0


@internal_access("the per-call token in the Authorization header is checked here")
@csrf_exempt
@require_POST
def run_call_tool(request: HttpRequest, call_id: uuid.UUID, name: str) -> JsonResponse:
    """Run a tool of the call's agent and keep what went in and what came out.

    The body is `{"arguments": {…}, "turn": n}`. What a tool refuses is an answer with status 200 and `"ok": false`.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    granted = read_call_token(token) if scheme == "Bearer" else None
    if granted is None or granted[0] != call_id:
        return _problem(401, "token", "The token is not one of this call.")
    body = _read_body(request)
    if isinstance(body, str):
        return _problem(400, "body", body)
    arguments, turn_index = body
    with enter_tenant(granted[1]):
        call = Call.objects.select_related("agent", "version").filter(pk=call_id).first()
        if call is None or not _accepts_tools(call):
            return _problem(404, "call", "This call has ended.")
        if name not in call.version.config.get("tools", []):
            return _problem(404, "tool", f"This agent has no tool {name}.")
        result = _run(call, name, arguments, turn_index)
    return JsonResponse(_document(result))


def _accepts_tools(call: Call) -> bool:
    return call.is_live or (
        call.ended_at is not None and (timezone.now() - call.ended_at).total_seconds() < GRACE_SECONDS
    )


def _read_body(request: HttpRequest) -> tuple[dict[str, Any], int] | str:
    """Return the arguments and the turn's index, or what is wrong with the body."""
    # A body sent in chunks has no length before it is read.
    if int(request.headers.get("Content-Length") or 0) > MAX_BODY_BYTES or len(request.body) > MAX_BODY_BYTES:
        return f"The body is longer than {MAX_BODY_BYTES} bytes."
    try:
        body = json.loads(request.body)
        arguments, turn_index = body.get("arguments", {}), body.get("turn", 0)
    except (ValueError, AttributeError, RecursionError):
        return "The body is not a JSON object."
    if not isinstance(arguments, dict):
        return "`arguments` is not an object."
    if not isinstance(turn_index, int) or isinstance(turn_index, bool) or not 0 <= turn_index <= 100_000:
        return "`turn` is not the index of a turn."
    return arguments, turn_index


def _run(call: Call, name: str, arguments: dict[str, Any], turn_index: int) -> ToolResult:
    started_at, started = timezone.now(), time.monotonic()
    leg = line_of(call)
    context = ToolContext(
        tenant_id=call.tenant_id,
        agent=call.agent,
        call_id=call.id,
        turn_index=turn_index,
        now=started_at,
        caller_number=leg.caller_number or None,
        puts_through=leg.puts_through,
    )
    try:
        with atomic():
            result = run_tool(name, arguments, context)
    except Exception:
        log.exception("tool.failed", call_id=str(call.id), tool=name)
        result = ToolResult(ok=False, error_code="failed", error_sentence="Something went wrong on our side.")
    duration_ms = round((time.monotonic() - started) * 1000)
    ToolRun.objects.create(
        call_id=call.id,
        turn_index=turn_index,
        name=name,
        arguments=arguments,
        result=_document(result),
        ok=result.ok,
        error_code=result.error_code or "",
        duration_ms=duration_ms,
        started_at=started_at,
    )
    log.info("tool.ran", call_id=str(call.id), tool=name, ok=result.ok, duration_ms=duration_ms)
    return result


def _document(result: ToolResult) -> dict[str, Any]:
    if result.ok:
        return {"ok": True, "result": result.result}
    error = {"code": result.error_code, "sentence": result.error_sentence, "slot": result.error_slot}
    return {"ok": False, "error": error, "result": result.result}


def _problem(status: int, code: str, sentence: str) -> JsonResponse:
    return JsonResponse({"ok": False, "error": {"code": code, "sentence": sentence}}, status=status)
