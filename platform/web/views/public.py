"""Pages for everybody: the home page with its demo, and the prices."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.views.decorators.http import require_GET, require_POST

from billing.models import Plan
from tenants.access import anonymous_allowed
from web.demo import MAX_SECONDS, DemoRefused, demo_agents, issue_visitor_ticket
from web.measurements import measured_here

BOOT_WORDS = [
    ("warm", "A container was waiting. The call waits for nothing but the network and the agent's first words."),
    ("restored", "None was waiting, but a snapshot with its models loaded was. It is copied and given to the call."),
    (
        "cold",
        "A new process, its libraries and its models from disk. It happens after a deploy, or with snapshots off.",
    ),
]


@anonymous_allowed("the home page is for visitors")
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    measured = measured_here()
    context = {
        "demo_agents": demo_agents(),
        "measured": measured,
        "measured_boots": [boots for boots in measured.boots.values() if boots.calls] if measured else [],
        "boot_words": BOOT_WORDS,
        "trial": _trial(),
    }
    return TemplateResponse(request, "web/public/home.html", context)


@anonymous_allowed("prices are public")
@require_GET
def pricing(request: HttpRequest) -> HttpResponse:
    return TemplateResponse(request, "web/public/pricing.html", {"plans": Plan.objects.public(), "trial": _trial()})


@anonymous_allowed("a visitor calls a demo agent; calls are limited per address and in number")
@require_POST
def demo_ticket(request: HttpRequest) -> JsonResponse:
    """Answer with the address of one demo call, or with a sentence that says why not."""
    try:
        url = issue_visitor_ticket(
            slug=request.POST.get("agent", ""),
            visitor_address=request.META.get("REMOTE_ADDR", ""),
            origin=f"{request.scheme}://{request.get_host()}",
        )
    except DemoRefused as refusal:
        return JsonResponse({"error": str(refusal)}, status=refusal.status)
    return JsonResponse({"url": url, "max_seconds": MAX_SECONDS})


def _trial() -> Plan | None:
    return Plan.objects.filter(trial_days__isnull=False).order_by("position").first()
