"""Agents: the list, a new one from the catalogue, talking to one, its draft, and its versions."""

from __future__ import annotations

import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Count
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agents import versions
from agents.catalog import VERTICALS, all_templates, problems_of, templates_by_slug
from agents.models import Agent, AgentVersion
from content.service_keys import missing_keys
from provisioning.models import Pool
from provisioning.regions import REGIONS
from tenants.access import TenantRequest, tenant_access
from tenants.models import Role
from voice.buckets import summary
from voice.models import Call, CallDay
from voice.tickets import AgentNotPublished, call_address, issue_ticket
from web.agent_editor import add_row, make_editor, read_draft, remove_row
from web.differences import readable_differences

DAYS = 7


class NewAgentForm(forms.Form):
    template = forms.ChoiceField(
        error_messages={"required": "Choose a template.", "invalid_choice": "Choose a template."}
    )
    name = forms.CharField(max_length=80, required=False, help_text="Empty: the template's own.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["template"].choices = [(each.slug, each.name) for each in all_templates()]  # type: ignore[attr-defined]


class AccessForm(forms.Form):
    allowed_origins = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        label="Pages that may call it",
        help_text="Origins like https://www.example.com, one a line. A single * allows every page.",
    )
    calls_per_minute = forms.IntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(1000)], label="Calls a minute, at most"
    )

    def clean_allowed_origins(self) -> list[str]:
        lines = self.cleaned_data["allowed_origins"].splitlines()
        return [line.strip().rstrip("/") for line in lines if line.strip()]


@tenant_access(Role.VIEWER)
@require_GET
def agents(request: TenantRequest) -> HttpResponse:
    today = timezone.localdate()
    figures = CallDay.objects.between(today - datetime.timedelta(days=DAYS - 1), today).by_agent()
    rows = [
        {
            "agent": agent,
            "vertical": VERTICALS.get(agent.vertical, agent.vertical),
            "figures": figures.get(agent.pk) or summary([]),
            "has_changes": agent.live_version is not None and agent.live_version.config != agent.draft,
        }
        for agent in Agent.objects.current().select_related("live_version")
    ]
    return TemplateResponse(request, "web/agents/agents.html", {"rows": rows, "days": DAYS})


@tenant_access(Role.DEVELOPER)
@require_http_methods(["GET", "POST"])
def agent_new(request: TenantRequest) -> HttpResponse:
    form = NewAgentForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = versions.create_agent_from_template(
                template=templates_by_slug()[form.cleaned_data["template"]],
                name=form.cleaned_data["name"],
                actor=request.user,
            )
        except versions.NotPossible as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(request, f"{made.name} is a draft: look it over, then publish it.")
            return redirect("web:agent_edit", tenant_slug=request.tenant.slug, agent_slug=made.slug)
    by_vertical: dict[str, list[Any]] = {}
    for template in all_templates():
        by_vertical.setdefault(VERTICALS[template.vertical], []).append(template)
    context = {"form": form, "by_vertical": by_vertical, "chosen": form["template"].value() or ""}
    return TemplateResponse(request, "web/agents/agent_new.html", context, status=422 if form.errors else 200)


@tenant_access(Role.VIEWER)
@require_GET
def agent(request: TenantRequest, agent_slug: str) -> HttpResponse:
    return _agent_page(request, _agent(agent_slug))


def _agent_page(
    request: TenantRequest, found: Agent, form: AccessForm | None = None, *, status: int = 200
) -> HttpResponse:
    today = timezone.localdate()
    days = CallDay.objects.between(today - datetime.timedelta(days=DAYS - 1), today).filter(agent_id=found.pk)
    context = {
        **_about(found),
        "form": form
        or AccessForm(
            initial={
                "allowed_origins": "\n".join(found.allowed_origins),
                "calls_per_minute": found.calls_per_minute,
            }
        ),
        "address": f"{settings.GATEWAY_URL}/agent/{found.public_key}",
        "regions": _regions(),
        "figures": days.total(),
        "days": DAYS,
        "recent": Call.objects.of_agent(found).select_related("agent")[:6],
    }
    return TemplateResponse(request, "web/agents/agent.html", context, status=status)


@tenant_access(Role.DEVELOPER)
@require_POST
def agent_access(request: TenantRequest, agent_slug: str) -> HttpResponse:
    found = _agent(agent_slug)
    form = AccessForm(request.POST)
    if form.is_valid():
        try:
            versions.change_access(agent=found, actor=request.user, **form.cleaned_data)
        except versions.NotPossible as refusal:
            form.add_error("allowed_origins", str(refusal))
        else:
            messages.success(request, "Saved. It holds for the next call.")
            return redirect("web:agent", tenant_slug=request.tenant.slug, agent_slug=found.slug)
    return _agent_page(request, found, form, status=422)


@tenant_access(Role.DEVELOPER)
@require_POST
def agent_ticket(request: TenantRequest, agent_slug: str) -> HttpResponse:
    """Answer with the address of one call, for the talk panel."""
    found = _agent(agent_slug)
    try:
        ticket = issue_ticket(found, issued_by=request.user, origin=f"{request.scheme}://{request.get_host()}")
    except AgentNotPublished as refusal:
        return JsonResponse({"error": str(refusal)}, status=409)
    return JsonResponse({"url": call_address(settings.GATEWAY_URL, ticket)})


@tenant_access(Role.DEVELOPER)
@require_http_methods(["GET", "POST"])
def agent_edit(request: TenantRequest, agent_slug: str) -> HttpResponse:
    found = _agent(agent_slug)
    if request.method == "GET":
        return _draft_page(request, found, found.draft)
    draft = read_draft(request.POST, request.POST.getlist("tools"), found.draft)
    note = request.POST.get("note", "")
    if path := request.POST.get("add"):
        add_row(draft, path)
        return _draft_page(request, found, draft, note=note, is_unsaved=True)
    if path := request.POST.get("remove"):
        remove_row(draft, path)
        return _draft_page(request, found, draft, note=note, is_unsaved=True)
    problems = versions.save_draft(agent=found, draft=draft, actor=request.user)
    if request.POST.get("action") != "publish":
        messages.success(request, "The draft is saved. Callers get the live version until you publish.")
        return redirect("web:agent_edit", tenant_slug=request.tenant.slug, agent_slug=found.slug)
    if problems:
        messages.warning(request, "The draft is saved, but not published: something has to be mended first.")
        return _draft_page(request, found, draft, note=note, status=422)
    if missing := missing_keys(draft):
        messages.warning(
            request,
            f"The draft is saved, but not published: save a key of {' and '.join(missing)} under Services first.",
        )
        return _draft_page(request, found, draft, note=note, status=422)
    try:
        version = versions.publish(agent=found, actor=request.user, note=note)
    except versions.NotPossible as refusal:
        messages.warning(request, str(refusal))
        return _draft_page(request, found, draft, note=note, status=422)
    messages.success(request, f"Version {version.number} is live: the next call gets it. No container was touched.")
    return redirect("web:agent", tenant_slug=request.tenant.slug, agent_slug=found.slug)


def _draft_page(
    request: TenantRequest,
    found: Agent,
    draft: dict[str, Any],
    *,
    note: str = "",
    is_unsaved: bool = False,
    status: int = 200,
) -> HttpResponse:
    context = {
        **_about(found),
        "editor": make_editor(draft, [] if is_unsaved else problems_of(draft)),
        "note": note,
        "is_unsaved": is_unsaved,
    }
    return TemplateResponse(request, "web/agents/agent_edit.html", context, status=status)


@tenant_access(Role.VIEWER)
@require_GET
def agent_versions(request: TenantRequest, agent_slug: str) -> HttpResponse:
    """All versions, and the differences between the two that the address names (`draft` is one too)."""
    found = _agent(agent_slug)
    published = list(found.versions.select_related("published_by").annotate(calls_count=Count("calls")))
    configs = {"draft": found.draft, **{str(version.number): version.config for version in published}}
    newer = request.GET.get("to", "draft" if found.draft else "")
    older = request.GET.get("from") or (str(found.live_version.number) if found.live_version else "")
    context = {
        **_about(found),
        "published": published,
        "choices": [(key, "Draft" if key == "draft" else f"Version {key}") for key in configs],
        "older": older,
        "newer": newer,
        "can_compare": older in configs and newer in configs,
        "differences": readable_differences(configs[older], configs[newer])
        if older in configs and newer in configs
        else [],
    }
    return TemplateResponse(request, "web/agents/agent_versions.html", context)


@tenant_access(Role.VIEWER)
@require_GET
def agent_version(request: TenantRequest, agent_slug: str, number: int) -> HttpResponse:
    found = _agent(agent_slug)
    version = get_object_or_404(found.versions.select_related("published_by"), number=number)
    before = found.versions.filter(number__lt=number).first()
    context = {
        **_about(found),
        "version": version,
        "before": before,
        "differences": readable_differences(before.config, version.config) if before else [],
        "recent": version.calls.select_related("agent")[:10],
    }
    return TemplateResponse(request, "web/agents/agent_version.html", context)


@tenant_access(Role.DEVELOPER)
@require_POST
def agent_roll_back(request: TenantRequest, agent_slug: str, number: int) -> HttpResponse:
    found = _agent(agent_slug)
    version = get_object_or_404(AgentVersion.objects.filter(agent=found), number=number)
    try:
        versions.roll_back(agent=found, version=version, actor=request.user)
    except versions.NotPossible as refusal:
        messages.warning(request, str(refusal))
    else:
        messages.success(request, f"Version {number} is live again. Calls that are going on keep theirs.")
    return redirect("web:agent_versions", tenant_slug=request.tenant.slug, agent_slug=found.slug)


@tenant_access(Role.ADMIN)
@require_POST
def agent_archive(request: TenantRequest, agent_slug: str) -> HttpResponse:
    found = _agent(agent_slug)
    versions.archive(agent=found, actor=request.user)
    messages.success(request, f"{found.name} is archived: it takes no calls. Its calls and versions stay.")
    return redirect("web:agents", tenant_slug=request.tenant.slug)


def _regions() -> list[tuple[str, str]]:
    """Return the regions of the tenant's pools to choose from; none where there is no choice."""
    served = set(Pool.objects.enabled().values_list("region", flat=True))
    return [(name, label) for name, label in REGIONS.items() if name in served] if len(served) > 1 else []


def _agent(slug: str) -> Agent:
    found = Agent.objects.select_related("live_version").filter(slug=slug).first()
    if found is None:
        raise Http404("No such agent.")
    return found


def _about(found: Agent) -> dict[str, Any]:
    """Return what every page of an agent shows above its tabs."""
    live = found.live_version
    return {
        "agent": found,
        "vertical": VERTICALS.get(found.vertical, found.vertical),
        "has_changes": live is None or live.config != found.draft,
        "versions_count": found.versions.count(),
        "engine": live.engine if live else found.draft.get("engine", ""),
    }
