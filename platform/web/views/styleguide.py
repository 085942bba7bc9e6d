"""Every component on one page, for who builds pages; only while DEBUG is on."""

from __future__ import annotations

from datetime import timedelta

from django import forms
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from tenants.access import anonymous_allowed
from web.charts import Part, Series, Step, bar_chart, line_chart
from web.templatetags.warmline import milliseconds


class SampleForm(forms.Form):
    name = forms.CharField(help_text="As callers hear it.")
    engine = forms.ChoiceField(choices=[("cascade", "Cascade"), ("moshi", "Moshi")])
    sessions = forms.IntegerField(max_value=8, label="Sessions per container")
    greeting = forms.CharField(widget=forms.Textarea(attrs={"rows": 3}), required=False)
    snapshots = forms.BooleanField(required=False, help_text="Restore containers from a loaded parent.")
    scopes = forms.MultipleChoiceField(
        choices=[("call", "Place calls"), ("read", "Read calls")], widget=forms.CheckboxSelectMultiple
    )


@anonymous_allowed("it shows components and made-up figures, and only while DEBUG is on")
def styleguide(request: HttpRequest) -> HttpResponse:
    if not settings.DEBUG:
        raise Http404("No such page.")
    return TemplateResponse(request, "web/public/styleguide.html", sample_context())


def sample_context() -> dict[str, object]:
    days = [f"{day} Nov" for day in range(1, 25)]
    p50 = [420 + 60 * (day % 5) for day in range(24)]
    p95 = [None if day == 9 else 900 + 90 * (day % 6) for day in range(24)]
    return {
        "form": SampleForm(
            {"name": "", "engine": "cascade", "sessions": "12", "greeting": "Thanks for calling.", "scopes": ["call"]}
        ),
        "states": [
            "live",
            "ready",
            "warm",
            "restored",
            "cold",
            "deploying",
            "priming",
            "draining",
            "stopped",
            "failed",
            "draft",
            "ended",
        ],
        "now": timezone.now() - timedelta(minutes=12),
        "lines": line_chart(days, [Series("p50", p50, "s1"), Series("p95", p95, "s2")], number=milliseconds, goal=1400),
        "bars": bar_chart(
            days,
            [
                Series("Ended", [8 + day % 7 for day in range(24)], "s1"),
                Series("Failed", [day % 4 == 0 for day in range(24)], "bad"),
            ],
            number="{:.0f}".format,
        ),
        "steps": [
            Step("setup", 0, 9, "s6", "admission"),
            Step("reserve", 9, 262, "restored", "a container restored"),
            Step("connect", 271, 41, "s3", "to the worker's handshake"),
            Step("greeting", 312, 118, "s1"),
            Step("first audio", 0, 430, "ember", is_total=True),
        ],
        "parts": [
            Part("Active", 3_310_000, "s1", "84.2 s × 39,311 nano-dollars ÷ 1 session"),
            Part("Idle warm", 640_000, "s3", "share of 300 s among 4 calls"),
            Part("Restore", 260_000, "s4", "262 ms"),
        ],
        "rows": [
            ("7f3a21", "Front desk", "live", "warm", 812, 41, 1_200_000),
            ("7f39e0", "Front desk", "ended", "restored", 1042, 131, 4_210_000),
            ("7f38c4", "Bookings", "ended", "cold", 1390, 12, 980_000),
            ("7f3811", "Bookings", "failed", "cold", None, 0, 0),
        ],
    }
