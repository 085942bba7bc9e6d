"""The page on which anybody compares GPUs of their own with managed speech services."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.http import require_GET

from provisioning.prices import gpu_names, rate_of
from provisioning.regions import REGIONS
from tenants.access import anonymous_allowed
from web.break_even import NotPossible, Offer, Situation, prices
from web.charts import Chart, Part, Series, line_chart, nice_ceiling
from web.measurements import measured_here
from web.templatetags.warmline import dollars, dollars_up_to, grouped

CPU_MILLICORES, MEMORY_MIB = 4000, 16_384
"""What a container with a GPU has besides."""
STEPS = 24


class BreakEvenForm(forms.Form):
    minutes = forms.IntegerField(label="Minutes of calls a month", min_value=1, max_value=50_000_000)
    peak_calls = forms.IntegerField(label="Calls at a time, at most", min_value=1, max_value=100_000)
    open_hours_a_week = forms.IntegerField(label="Hours a week the line is open", min_value=1, max_value=168)
    gpu = forms.ChoiceField(label="GPU")
    region = forms.ChoiceField(choices=[(name, label) for name, label in REGIONS.items() if name != "local"])
    sessions_per_container = forms.IntegerField(
        label="Conversations on one GPU",
        min_value=1,
        max_value=400,
        required=False,
        help_text="Empty: as the table says for the GPU.",
    )
    warm_containers = forms.IntegerField(
        label="Containers kept warm", min_value=0, max_value=1000, help_text="In the hours the line is open."
    )
    fill_percent = forms.IntegerField(
        label="Places taken while a container runs", min_value=1, max_value=100, help_text="Per cent, on average."
    )
    agent_percent = forms.IntegerField(label="The agent's share of what is said", min_value=1, max_value=99)
    offer = forms.ChoiceField(label="Compared with")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, choices in (
            ("gpu", [(gpu, gpu) for gpu in gpu_names()]),
            ("offer", [(offer.slug, offer.name) for offer in prices().offers.values()]),
        ):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = choices

    def situation(self) -> Situation:
        """Raises: NotPossible"""
        told = dict(self.cleaned_data)
        gpu, region = told.pop("gpu"), told.pop("region")
        told.pop("offer")
        told["sessions_per_container"] = told["sessions_per_container"] or prices().sessions.get(gpu, 1)
        rate = rate_of(gpu=gpu, cpu_millicores=CPU_MILLICORES, memory_mib=MEMORY_MIB, region=region)
        situation = Situation(**told, rate=rate)
        situation.check()
        return situation


@anonymous_allowed("a calculator for visitors")
@require_GET
def break_even(request: HttpRequest) -> HttpResponse:
    measured = measured_here()
    fill_percent = measured.fill_percent if measured else None
    defaults = {
        "minutes": 20_000,
        "peak_calls": 30,
        "open_hours_a_week": 60,
        "gpu": "H100",
        "region": "us-east",
        "sessions_per_container": "",
        "warm_containers": 1,
        "fill_percent": fill_percent or prices().assumed["fill_percent"],
        "agent_percent": prices().assumed["agent_percent"],
        "offer": "parts",
    }
    form = BreakEvenForm({**defaults, **request.GET.dict()})
    context: dict[str, Any] = {"form": form, "measured_fill": fill_percent, "read_date": prices().read_date}
    if form.is_valid():
        try:
            context |= _compared(form.situation(), prices().offers[form.cleaned_data["offer"]])
        except NotPossible as problem:
            form.add_error("peak_calls", str(problem))
    return TemplateResponse(request, "web/break_even/break_even.html", context)


def _compared(situation: Situation, offer: Offer) -> dict[str, Any]:
    a_minute = offer.a_minute(situation.agent_percent)
    own, managed = situation.own_cost(), a_minute * situation.minutes
    break_even_minutes = situation.break_even_minutes(a_minute)
    return {
        "situation": situation,
        "offer": offer,
        "own": own,
        "managed": managed,
        "difference": abs(managed - own),
        "own_a_minute": own // situation.minutes,
        "managed_a_minute": a_minute,
        "break_even_minutes": break_even_minutes,
        "own_is_cheaper": own < managed,
        "chart": _chart(situation, a_minute, break_even_minutes),
        "managed_parts": [
            Part(
                row.name,
                round(row.a_minute(situation.agent_percent)),
                f"s{number}",
                f"{dollars(row.nano_dollars)} a {row.unit} × {float(row.units):g}"
                + (f" × {_share(row.of, situation)} % ({row.of}’s speech)" if row.of else ""),
            )
            for number, row in enumerate(offer.rows, start=1)
        ],
        "containers": float(situation.containers()),
        "open_hours": float(situation.open_seconds / 3600),
        "calls_on_average": float(situation.calls_on_average),
    }


def _share(of: str, situation: Situation) -> int:
    return situation.agent_percent if of == "agent" else 100 - situation.agent_percent


def _chart(situation: Situation, a_minute: int, break_even_minutes: int | None) -> Chart:
    """Draw both costs over the minutes a month, up to where the line is full at most."""
    wanted = max(2 * situation.minutes, (3 * break_even_minutes // 2) if break_even_minutes else 0)
    top = min(situation.minutes_at_peak, round(nice_ceiling(wanted)))
    minutes = [top * step // STEPS for step in range(STEPS + 1)]
    own = [situation.own_cost(each) for each in minutes]
    managed = [a_minute * each for each in minutes]
    return line_chart(
        [f"{grouped(each)} min" for each in minutes],
        [Series("GPUs of your own", own, "s1"), Series("Managed", managed, "s2")],
        number=dollars_up_to(max(*own, *managed)),
    )
