"""Filters and components of the pages. Names of CSS classes are listed in static/web/README.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django import template
from django.forms import BoundField
from django.template.context import RequestContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from agents import engines
from provisioning.regions import REGIONS
from web import charts

register = template.Library()

NOTHING = "–"
NANO_DOLLARS = 1_000_000_000


@register.filter
def engine_name(engine: str) -> str:
    """Return "Cascade" for "cascade"."""
    return engines.NAMES.get(engine, engine)


@register.filter
def milliseconds(value: float | None) -> str:
    """Return "412 ms", "1.42 s" or "3 min 05 s"."""
    if value is None:
        return NOTHING
    if value < 0:  # a remainder, where the worker's clock and the gateway's differ
        return f"−{milliseconds(-value)}"
    if value < 1:
        return f"{value:.1f} ms" if value else "0 ms"
    if value < 1000:
        return f"{value:.0f} ms"
    if value < 60_000:
        return f"{value / 1000:.2f} s"
    return duration(value / 1000)


@register.filter
def duration(seconds: float | None) -> str:
    """Return "48 s", "3 min 05 s" or "2 h 10 min"."""
    if seconds is None:
        return NOTHING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


@register.filter
def dollars(nano_dollars: int | None) -> str:
    """Return nano-dollars as dollars with as many digits as tell something: "$12.40", "$0.0123", "$0.000042"."""
    if nano_dollars is None:
        return NOTHING
    sign, amount = ("−" if nano_dollars < 0 else ""), abs(nano_dollars) / NANO_DOLLARS
    if amount == 0 or amount >= 1:
        return f"{sign}${amount:,.2f}"
    digits = 4 if amount >= 0.01 else 6 if amount >= 0.00001 else 9  # nine hold every nano-dollar
    return f"{sign}${amount:.{digits}f}"


@register.filter
def an_hour(a_second: int) -> int:
    """Return a rate for each hour from one for each second."""
    return a_second * 3600


def dollars_up_to(most_nano_dollars: int) -> Callable[[float], str]:
    """Return how to write amounts on one scale: all with the digits that the largest of them needs."""
    most = most_nano_dollars / NANO_DOLLARS
    digits = 2
    while most and most < 10 ** (2 - digits) and digits < 9:
        digits += 1
    return lambda nano_dollars: f"${nano_dollars / NANO_DOLLARS:,.{digits}f}"


@register.filter
def cents(value: int | None) -> str:
    """Return cents as dollars: "$149", "$0.12"."""
    if value is None:
        return NOTHING
    return money(value, "usd")


@register.filter
def money(value: int | None, currency: str) -> str:
    """Return hundredths of a currency: "$149", "$0.12", "−1,234.50 EUR"."""
    if value is None:
        return NOTHING
    whole, rest = divmod(abs(value), 100)
    said = f"{whole:,}.{rest:02}" if rest else f"{whole:,}"
    sign = "−" if value < 0 else ""
    return f"{sign}${said}" if currency == "usd" else f"{sign}{said} {currency.upper()}"


@register.filter
def ago(moment: datetime | None) -> str | SafeString:
    """Return a <time> that reads "4 min ago", which the browser keeps fresh, or "23 Nov, 17:36" beyond a day.

    The exact moment is its title.
    """
    if moment is None:
        return NOTHING
    seconds = (timezone.now() - moment).total_seconds()
    local = timezone.localtime(moment)
    exactly = local.strftime("%-d %b %Y, %H:%M:%S %Z")
    if abs(seconds) >= 86_400:
        is_this_year = local.year == timezone.localtime().year
        said = local.strftime("%-d %b, %H:%M" if is_this_year else "%-d %b %Y, %H:%M")
        return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exactly, said)
    units = ((3600, "h"), (60, "min"))
    size, unit = next(((size, unit) for size, unit in units if abs(seconds) >= size), (1, "s"))
    if abs(seconds) < 10:
        said = "just now"
    else:
        count = int(abs(seconds) // size)
        said = f"{count} {unit} ago" if seconds > 0 else f"in {count} {unit}"
    return format_html('<time datetime="{}" title="{}" data-ago>{}</time>', moment.isoformat(), exactly, said)


@register.filter
def humanise(slug: str) -> str:
    """Return a slug as words: "home_services" is "Home services"."""
    return str(slug).replace("_", " ").replace("-", " ").capitalize()


@register.filter
def action_words(action: str) -> str:
    """Return an action of the audit trail as words: "api_key.revoked" is "API key revoked"."""
    return humanise(action.replace(".", " ")).replace("Api key", "API key")


@register.filter
def details(document: dict[str, Any]) -> str:
    """Return details of the audit trail in one line; a pair of values reads as a change, what is empty is left out."""

    def said(value: Any) -> str:
        if isinstance(value, list):
            # pools.change_pool writes a change as [before, after]; lists of words are just lists.
            is_change = len(value) == 2 and not all(isinstance(each, str) for each in value)
            return (" → " if is_change else ", ").join(map(said, value)) or NOTHING
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, dict):
            return json.dumps(value)
        return NOTHING if value in (None, "") else str(value)

    told = {name: value for name, value in document.items() if value not in (None, "", [])}
    return ", ".join(f"{humanise(name).lower()}: {said(value)}" for name, value in told.items()) or NOTHING


@register.filter
def percent(share: float | None) -> str:
    """Return a share of 1 as "12.5 %"."""
    return NOTHING if share is None else f"{share * 100:.1f} %"


@register.filter
def region_name(region: str) -> str:
    """Return a region's name: "us-east" is "United States, East"."""
    return REGIONS.get(region, region) or NOTHING


@register.filter
def grouped(value: float | None) -> str:
    """Return a count with its thousands set apart: "12,480", and at most one decimal."""
    if value is None:
        return NOTHING
    return f"{value:,.1f}" if isinstance(value, float) and value < 1000 and value % 1 else f"{value:,.0f}"


@register.filter
def clock(milliseconds: int | None) -> str:
    """Return milliseconds since a beginning as "2:05"."""
    return NOTHING if milliseconds is None else f"{milliseconds // 60_000}:{milliseconds // 1000 % 60:02}"


@register.filter
def json_pretty(value: Any) -> str:
    """Return a JSON value to be read by people."""
    return NOTHING if value is None else json.dumps(value, indent=2, ensure_ascii=False)


@register.filter
def unit_small(said: str) -> SafeString | str:
    """Set the unit of "412 ms" small, for a tile."""
    number, _, unit = said.partition(" ")
    return format_html("{}<small>{}</small>", number, unit) if unit else said


@register.filter
def field_kind(field: BoundField) -> str:
    """Return "check" for a single checkbox, "choices" for several inputs under one label, else "input"."""
    widget = field.field.widget
    if getattr(widget, "input_type", "") == "checkbox" and not hasattr(widget, "option_template_name"):
        return "check"
    return "choices" if getattr(widget, "use_fieldset", False) else "input"


@register.simple_tag
def state(value: str, label: str = "") -> SafeString | str:
    """Return the badge of a state: live, ready, deploying, failed, warm, restored, cold, …"""
    if not value:
        return NOTHING
    return format_html('<span class="badge" data-state="{}">{}</span>', value, label or str(value).replace("_", " "))


@register.inclusion_tag("web/_components/icon.html")
def icon(name: str) -> dict[str, str]:
    """Draw an icon of static/web/icons.svg. It is decoration: the button around it needs words or an aria-label."""
    return {"name": name}


@register.inclusion_tag("web/_components/field.html")
def field(bound_field: BoundField, label: str = "", unit: str = "") -> dict[str, Any]:
    """Draw a form field with its label, help and errors. `unit` stands behind the input: "seconds"."""
    return {"field": bound_field, "label": label or bound_field.label, "unit": unit}


@register.inclusion_tag("web/_components/nav_link.html", takes_context=True)
def nav_link(context: RequestContext, view: str, label: str, icon: str, exact: bool = False) -> dict[str, Any]:
    """Draw a link of the sidebar, marked on its page and, unless `exact`, on those whose addresses begin with its."""
    request = context["request"]
    tenant = getattr(request, "tenant", None)
    address = reverse(f"web:{view}", kwargs={"tenant_slug": tenant.slug} if tenant else None)
    is_here = request.path == address or (not exact and request.path.startswith(address))
    return {"address": address, "label": label, "icon": icon, "is_here": is_here}


@register.inclusion_tag("web/_components/pager.html", takes_context=True)
def pager(context: RequestContext, page: Any) -> dict[str, Any]:
    """Draw previous and next for a page of Django's Paginator; the other filters in the address are kept."""
    return {"page": page, "request": context["request"]}


@register.inclusion_tag("web/_components/key.html")
def key(value: str, label: str = "") -> dict[str, str]:
    """Draw a value to be copied: a key, an address, a command."""
    return {"value": value, "label": label or "Copy"}


@register.inclusion_tag("web/_components/chart.html")
def chart(drawn: charts.Chart, is_tall: bool = False) -> dict[str, Any]:
    return {"chart": drawn, "is_tall": is_tall}


@register.inclusion_tag("web/_components/waterfall.html")
def waterfall(steps: Sequence[charts.Step]) -> dict[str, Any]:
    """Draw durations one under the other on one scale."""
    end_ms = max((step.start_ms + step.duration_ms for step in steps), default=0) or 1
    return {
        "rows": [
            {
                "step": step,
                "x": f"{100 * step.start_ms / end_ms:.2f}%",
                "width": f"{max(0.3, 100 * step.duration_ms / end_ms):.2f}%",
            }
            for step in steps
        ]
    }


@register.inclusion_tag("web/_components/parts_bar.html")
def parts_bar(parts: Sequence[charts.Part], longest: float) -> dict[str, Any]:
    """Draw durations one after the other as one bar, on a scale that ends with the longest of several bars."""
    whole = max(longest, sum(max(0, part.value) for part in parts)) or 1
    x, bars = 0.0, []
    for part in parts:
        width = 100 * max(0, part.value) / whole
        bars.append({"x": f"{x:.2f}%", "width": f"{width:.2f}%", "part": part})
        x += width
    return {"bars": bars}


@register.inclusion_tag("web/_components/cost.html")
def cost(parts: Sequence[charts.Part], total_nano_dollars: int, note: str = "") -> dict[str, Any]:
    """Draw a cost in nano-dollars: one bar split by part, and the parts with their arithmetic."""
    whole = sum(part.value for part in parts) or 1
    x, bars = 0.0, []
    for part in parts:
        width = 100 * max(0, part.value) / whole
        bars.append({"x": f"{x:.2f}%", "width": f"{width:.2f}%", "tone": part.tone})
        x += width
    return {"bars": bars, "parts": parts, "total": total_nano_dollars, "note": note}
