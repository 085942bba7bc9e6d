"""What Twilio asks us over HTTP: whom a ring goes to, what comes after a stream, and how a call went.

Each request is believed by its signature alone, which the tenant's own token makes. The address that Twilio signed is
TELEPHONY_WEBHOOK_URL's, whatever a proxy made of it.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import Connect, VoiceResponse

from tenants.access import internal_access
from tenants.scope import enter_tenant
from voice.telephony import ending, words
from voice.telephony.bridge import EndKind
from voice.telephony.models import Carrier, CarrierAccount, TelephoneLeg, TelephoneNumber
from voice.telephony.routing import CallDeclined, choose_agent, find_tenant_of, grant
from voice.telephony.twilio.rest import STATUSES, webhook

log = structlog.get_logger(__name__)

DIAL_SECONDS = 25
"""How long the person whom a caller is put through to may let it ring."""

View = Callable[..., HttpResponse]


def from_twilio(view: View) -> View:
    """Enter the tenant whose number the request names and whose token signed it; everybody else gets 403."""

    @internal_access("Twilio's signature, made with the tenant's own token, is checked here")
    @csrf_exempt
    @require_POST
    @functools.wraps(view)
    def checked(request: HttpRequest, **arguments: Any) -> HttpResponse:
        # Of an inbound call the number called is ours, of an outbound one the caller's.
        for number in (request.POST.get("To", ""), request.POST.get("From", "")):
            tenant_id = find_tenant_of(number)
            if tenant_id is None:
                continue
            with enter_tenant(tenant_id):
                if _is_signed(request):
                    return view(request, **arguments)
        log.warning("twilio.refused", path=request.path)
        return HttpResponse("The signature is not that of an account known here.", status=403)

    return checked


def _is_signed(request: HttpRequest) -> bool:
    account = CarrierAccount.objects.filter(carrier=Carrier.TWILIO).first()
    if account is None or account.account_ref != request.POST.get("AccountSid"):
        return False
    signature = request.headers.get("X-Twilio-Signature", "")
    return RequestValidator(str(account.token)).validate(
        settings.TELEPHONY_WEBHOOK_URL + request.get_full_path(), request.POST, signature
    )


@from_twilio
def voice(request: HttpRequest) -> HttpResponse:
    """Answer a ring: with a stream to an agent, or a message."""
    number = TelephoneNumber.objects.select_related("agent", "outside_agent").get(number=request.POST["To"])
    # Twilio asks again where an answer was lost on the way.
    leg, _ = TelephoneLeg.objects.get_or_create(
        carrier=Carrier.TWILIO,
        carrier_ref=request.POST["CallSid"],
        defaults={"our_number": number.number, "other_number": _caller_of(request)},
    )
    try:
        leg.agent = choose_agent(number, at=timezone.now())
        leg.save(update_fields=["agent"])
        return _stream(leg)
    except CallDeclined as problem:
        return _say(str(problem))


@from_twilio
def answered(request: HttpRequest, leg_id: uuid.UUID) -> HttpResponse:
    """Somebody, or something, took a call that an agent placed."""
    leg = TelephoneLeg.objects.select_related("agent").filter(pk=leg_id, carrier=Carrier.TWILIO).first()
    if leg is None or leg.is_finished or leg.agent is None:
        return _hang_up()
    leg.carrier_ref = request.POST["CallSid"]
    leg.answered_by = request.POST.get("AnsweredBy", "")[:24]
    leg.save(update_fields=["carrier_ref", "answered_by"])
    leg.answer()
    if leg.answered_by.startswith("machine") or leg.answered_by == "fax":
        return _hang_up()
    try:
        return _stream(leg)
    except CallDeclined:
        return _hang_up()


@from_twilio
def after(request: HttpRequest) -> HttpResponse:
    """The stream has ended: put the caller through, say why there is no agent, or hang up."""
    leg = TelephoneLeg.objects.filter(carrier=Carrier.TWILIO, carrier_ref=request.POST["CallSid"]).first()
    if leg is None:
        return _hang_up()
    if leg.end_kind == EndKind.TRANSFERRED and leg.transferred_to:
        response = VoiceResponse()
        dial = response.dial(action=webhook("dialled"), method="POST", timeout=DIAL_SECONDS, caller_id=leg.our_number)
        if leg.transferred_to.startswith(("sip:", "sips:")):
            dial.sip(leg.transferred_to)
        else:
            dial.number(leg.transferred_to)
        return _twiml(response)
    if not leg.end_kind:  # no process took the stream: all are full, or there is none
        return _say(words.BUSY)
    sentence = words.after(leg.end_kind, leg.close_code)
    return _say(sentence) if sentence else _hang_up()


@from_twilio
def dialled(request: HttpRequest) -> HttpResponse:
    """The person whom a caller was put through to has hung up, or never answered."""
    leg = TelephoneLeg.objects.filter(carrier=Carrier.TWILIO, carrier_ref=request.POST["CallSid"]).first()
    status = STATUSES.get(request.POST.get("DialCallStatus", ""), TelephoneLeg.Status.FAILED)
    if leg is not None:
        ending.record_person(
            leg,
            carrier_ref=request.POST.get("DialCallSid", ""),
            status=status,
            seconds=_seconds(request.POST.get("DialCallDuration")),
        )
    return _hang_up() if status == TelephoneLeg.Status.COMPLETED else _say(words.NOBODY)


@from_twilio
def status(request: HttpRequest) -> HttpResponse:
    """Take in how a call goes. What has ended without a goodbye ends here."""
    leg = TelephoneLeg.objects.filter(carrier=Carrier.TWILIO, carrier_ref=request.POST["CallSid"]).first()
    said = STATUSES.get(request.POST.get("CallStatus", ""))
    if leg is not None and said in TelephoneLeg.FINISHED:
        ending.finish_leg(leg, status=said, seconds=_seconds(request.POST.get("CallDuration")))
    elif leg is not None and said == TelephoneLeg.Status.ANSWERED:
        leg.answer()
    elif leg is not None and said == TelephoneLeg.Status.RINGING and leg.status == TelephoneLeg.Status.WAITING:
        leg.status, leg.rang_at = said, timezone.now()
        leg.save(update_fields=["status", "rang_at"])
    return HttpResponse(status=204)


def _stream(leg: TelephoneLeg) -> HttpResponse:
    """Answer with a stream to the telephony process; when that closes it, Twilio asks `after`.

    Raises:
        CallDeclined
    """
    assert leg.agent is not None
    granted = grant(leg, leg.agent)
    response, connect = VoiceResponse(), Connect()
    stream = connect.stream(url=f"{settings.TELEPHONY_URL}/twilio")
    stream.parameter(name="leg", value=granted.leg_token)
    stream.parameter(name="ticket", value=granted.ticket)
    response.append(connect)
    response.redirect(webhook("after"), method="POST")
    return _twiml(response)


def _say(sentence: str) -> HttpResponse:
    response = VoiceResponse()
    response.say(sentence)
    response.hangup()
    return _twiml(response)


def _hang_up() -> HttpResponse:
    response = VoiceResponse()
    response.hangup()
    return _twiml(response)


def _twiml(response: VoiceResponse) -> HttpResponse:
    return HttpResponse(str(response), content_type="text/xml")


def _caller_of(request: HttpRequest) -> str:
    """Return the caller's number; empty where it is withheld: Twilio writes words in its place."""
    number = request.POST.get("From", "")
    return number[:120] if number.startswith(("+", "sip:")) else ""


def _seconds(value: str | None) -> int | None:
    return int(value) if value and value.isdecimal() else None
