"""TwiML, Twilio's markup, which SignalWire calls cXML and Telnyx TeXML; and what all three say over HTTP.

Each goes on with the document when a stream is over: so all of them ask `after` what comes next.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import QueryDict

from voice.telephony.carriers.contract import DIAL_SECONDS, STATUSES, Said, read_seconds
from voice.telephony.carriers.documents import document, verb
from voice.telephony.models import TelephoneLeg


def stream(url: str, parameters: Mapping[str, str], *, then: str, **attributes: str) -> str:
    given = [verb("Parameter", name=name, value=value) for name, value in parameters.items()]
    return document(
        verb("Connect", verb("Stream", *given, url=url, **attributes)), verb("Redirect", text=then, method="POST")
    )


def dial(target: str, *, caller_id: str, then: str) -> str:
    noun = verb("Sip" if target.startswith(("sip:", "sips:")) else "Number", text=target)
    return document(verb("Dial", noun, action=then, method="POST", timeout=str(DIAL_SECONDS), callerId=caller_id))


def say(sentence: str) -> str:
    return document(verb("Say", text=sentence), verb("Hangup"))


def hang_up() -> str:
    return document(verb("Hangup"))


def read(form: QueryDict) -> Said:
    return Said(
        call_ref=form.get("CallSid", ""),
        to=form.get("To", ""),
        caller=_number(form.get("From", "")),
        status=STATUSES.get(form.get("CallStatus", "")),
        seconds=read_seconds(form.get("CallDuration")),
        account_ref=form.get("AccountSid", ""),
        answered_by=form.get("AnsweredBy", ""),
        person_ref=form.get("DialCallSid", ""),
        person_status=STATUSES.get(form.get("DialCallStatus", ""), TelephoneLeg.Status.FAILED),
        person_seconds=read_seconds(form.get("DialCallDuration")),
    )


def _number(text: str) -> str:
    """Return a caller's number; empty where it is withheld: carriers write words in its place."""
    return text if text.startswith(("+", "sip:")) else ""
