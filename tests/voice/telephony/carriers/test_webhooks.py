"""What carriers and strangers post to our webhooks."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from django.test import RequestFactory
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.carriers import signalwire as signalwire_stand_in
from tests.carriers import telnyx as telnyx_stand_in
from tests.carriers.calls import Call
from tests.voice.telephony.carriers.each import at_each_carrier
from tests.voice.telephony.carriers.requests import post, ring
from tests.voice.telephony.conftest import Connect, Exchange
from tests.voice.telephony.legs import the_leg
from tests.voice.telephony.processes import CALLER, NUMBER, STAND_INS, CarrierProcess
from voice.telephony.carriers import CARRIERS, plivo
from voice.telephony.models import CarrierAccount, TelephoneLeg

FORGERIES = ["no signature", "another token", "another form", "no number", "no call", "another carrier"]


@pytest.mark.parametrize(
    ("carrier", "forgery"),
    [(carrier, forgery) for carrier in STAND_INS for forgery in FORGERIES]
    + [(carrier, "another address") for carrier in STAND_INS if carrier != "telnyx"]
    + [("twilio", "another account"), ("signalwire", "another account"), ("telnyx", "an old one")],
)
def test_what_the_carrier_did_not_sign_is_refused(
    exchange: Exchange, peer: CarrierProcess, acme: Tenant, number_of: Connect, tmp_path: Path, forgery: str
) -> None:
    number_of("whistle")
    module = STAND_INS[peer.carrier]
    url = f"{exchange[2].url}/telephone/{peer.carrier}/voice/"
    form = ring(module.STAND_IN(tmp_path))
    of_call = next(name for name in ("CallSid", "CallUUID") if name in form)
    form.update(
        {
            "another account": {"AccountSid": "AC" + "b" * 32},
            "no number": {"To": "+14155550999"},
            "no call": {of_call: ""},
        }.get(forgery, {})
    )
    signed_url = url.replace("voice", "after") if forgery == "another address" else url
    if forgery == "another carrier":
        module = STAND_INS["plivo" if peer.carrier == "twilio" else "twilio"]
    if forgery == "an old one":
        headers = telnyx_stand_in.sign(url, form, at=time.time() - 400)
    else:
        headers = module.sign(signed_url, form, *["x" * 32] * (forgery == "another token"))
    if forgery == "another form":
        form["From"] = "+19005550100"
    assert post(url, form, {} if forgery == "no signature" else headers)[0] == 403
    with enter_tenant(acme.id):
        assert not TelephoneLeg.objects.exists()


@at_each_carrier
def test_what_is_said_of_another_call_changes_no_placed_one(
    exchange: Exchange, peer: CarrierProcess, acme: Tenant, number_of: Connect, tmp_path: Path
) -> None:
    """Telnyx signs no address, and some carriers tell of a person put through to at the address of the caller."""
    _, agent = number_of("whistle")
    stand_in = STAND_INS[peer.carrier].STAND_IN(tmp_path)
    person = "+14155550199"
    of = {"carrier": peer.carrier, "direction": "outbound", "our_number": NUMBER, "agent": agent}
    with enter_tenant(acme.id):
        leg = TelephoneLeg.objects.create(other_number=CALLER, carrier_ref="a request", **of)
        TelephoneLeg.objects.create(other_number=CALLER, carrier_ref="another", **of)

    def say(name: str, ref: str, status: str, *, to: str = CALLER) -> tuple[str, str]:
        """Return the leg's status after a webhook at its address, and what that answered."""
        call = Call(sid=ref, from_number=NUMBER, to_number=to, steps=[], status=status)
        form = stand_in.form(call)
        url = f"{exchange[2].url}/telephone/{peer.carrier}/{name}/{leg.pk}/"
        code, document = post(url, form, stand_in.sign(url, form))
        assert code in (200, 204)
        with enter_tenant(acme.id):
            leg.refresh_from_db()
        return leg.status, document

    for other in ({"ref": "a child", "to": person}, {"ref": "another"}):
        status, document = say("answered", status="in-progress", **other)
        assert status == "ringing" and "Stream" not in document
        assert say("status", status="completed", **other)[0] == "ringing"
    assert "<Stream" in say("answered", "its own", "in-progress")[1] and leg.carrier_ref == "its own"
    for other in ({"ref": "a child", "to": person}, {"ref": "a child"}, {"ref": "another"}):
        assert say("status", status="completed", **other)[0] == "answered"
        assert "Stream" not in say("answered", status="in-progress", **other)[1]
    assert say("status", "its own", "completed")[0] == "completed"


def test_without_a_signing_key_nothing_is_signed(acme: Tenant) -> None:
    url, form = "https://web.example.com/telephone/signalwire/voice/", {"To": NUMBER}
    request = RequestFactory().post(url, form, headers=signalwire_stand_in.sign(url, form, "None"))
    with enter_tenant(acme.id):
        account = CarrierAccount(tenant=acme, carrier="signalwire", token="t" * 20, signing_key=None)
        assert not CARRIERS["signalwire"].is_signed(account, request, url)
        account.signing_key = "None"
        assert CARRIERS["signalwire"].is_signed(account, request, url)


@pytest.mark.parametrize("carrier", ["telnyx"])
@pytest.mark.parametrize("oddity", ["multipart", "JSON", "a long time", "a long duration", "a NUL"])
def test_what_strangers_post_is_no_error_of_ours(
    exchange: Exchange, number_of: Connect, tmp_path: Path, oddity: str
) -> None:
    number_of("whistle")
    stand_in = telnyx_stand_in.STAND_IN(tmp_path)
    url = f"{exchange[2].url}/telephone/telnyx/voice/"
    form = ring(stand_in)
    form.update({"a long duration": {"CallDuration": "9" * 5000}, "a NUL": {"To": "\0"}}.get(oddity, {}))
    headers = stand_in.sign(url, {})
    if oddity == "a long time":
        headers["Telnyx-Timestamp"] = "9" * 5000
    body, content_type = urllib.parse.urlencode(form).encode(), "application/x-www-form-urlencoded"
    if oddity == "multipart":
        content_type = MULTIPART_CONTENT
        body = encode_multipart(BOUNDARY, form)
    elif oddity == "JSON":
        body, content_type = json.dumps(form).encode(), "application/json"
    request = urllib.request.Request(url, body, {**headers, "Content-Type": content_type})
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=10)
    with refusal.value:
        assert refusal.value.code == 403


@at_each_carrier
def test_a_ring_that_is_repeated_is_one_leg_and_without_a_stream_the_lines_are_busy(
    exchange: Exchange, peer: CarrierProcess, acme: Tenant, number_of: Connect, tmp_path: Path
) -> None:
    number_of("whistle")
    stand_in = STAND_INS[peer.carrier].STAND_IN(tmp_path)
    form = ring(stand_in, From="anonymous")
    answers = []
    for name in ("voice", "voice", "after"):
        url = f"{exchange[2].url}/telephone/{peer.carrier}/{name}/"
        answers.append(post(url, form, stand_in.sign(url, form)))
    assert [status for status, _ in answers] == [200, 200, 200]
    assert "<Stream" in answers[0][1] and "all our lines are busy" in answers[2][1]
    assert the_leg(acme).other_number == ""


def test_a_number_at_one_carrier_is_not_rung_by_another(
    exchange: Exchange, peer: CarrierProcess, acme: Tenant, alice: User, number_of: Connect, tmp_path: Path
) -> None:
    number_of("whistle")
    with enter_tenant(acme.id):
        CarrierAccount.objects.create(carrier="telnyx", **telnyx_stand_in.CREDENTIALS)
    stand_in = telnyx_stand_in.STAND_IN(tmp_path)
    url = f"{exchange[2].url}/telephone/telnyx/voice/"
    form = ring(stand_in)
    status, answer = post(url, form, stand_in.sign(url, form))
    assert status == 200 and "Stream" not in answer
    with enter_tenant(acme.id):
        assert not TelephoneLeg.objects.exists()
        # Its first signed request has told what Telnyx calls the account: another's is refused from then on.
        assert CarrierAccount.objects.get(carrier="telnyx").account_ref == telnyx_stand_in.ACCOUNT
    form["AccountSid"] = "another"
    assert post(url, form, stand_in.sign(url, form))[0] == 403


def test_plivos_signature_is_that_of_its_own_sdk() -> None:
    """The values were made with plivo.utils.validate_v3_signature of plivo 4.63.0."""
    form = {"To": ["14155550100"], "From": ["12125550177"], "CallUUID": ["a-b"], "Digits": ["2", "1"]}
    assert [
        plivo.signature("token", "https://web.example.com/telephone/plivo/voice/", form, "n1"),
        plivo.signature("token", "https://web.example.com/a/?b=2&a=1&b=1", form, "n1"),
        plivo.signature("token", "https://web.example.com/a/?b=2&a=1", {}, "n1"),
        plivo.signature("token", "https://web.example.com/a/", {}, "n1"),
    ] == SIGNATURES_OF_PLIVOS_SDK


SIGNATURES_OF_PLIVOS_SDK = [
    "WxjOPcvYJAokefeiPw+iO7xWl6HgVNKPXRnTcDkDaSc=",
    "0JNY1dK50Gzd4oCTkT+0PuvYfyF2m4bJzlqbWy1eAeI=",
    "yCEselh+oS9cEL/qhFy93W8Tc5smHRTcncIiONn6Mn8=",
    "yoflNU5Cv6xgX89L2oVPuBfOKpZb4LBn0dVvCqLZaUU=",
]
