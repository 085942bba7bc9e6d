"""Pools: how many workers are kept where, what became of that, and what a container writes to its log."""

from __future__ import annotations

import uuid
from typing import Any

from asgiref.sync import async_to_sync
from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from billing.entitlements import entitlements_of
from gpu_workers.kinds import KINDS
from provisioning import pools as journeys
from provisioning.backends import BACKENDS, make_backend
from provisioning.backends.contract import BackendError
from provisioning.importing import bill_problem_of
from provisioning.models import BilledHour, Container, Deployment, Pool
from provisioning.models.pools import Worker
from provisioning.standing import pool_standings
from tenants.access import TenantRequest, tenant_access
from tenants.models import Role
from web.fragments import page_or_fragment

SHAPE = (
    "min_containers",
    "buffer_containers",
    "max_containers",
    "sessions_per_container",
    "scaledown_window_seconds",
    "snapshots",
)
PLACE = ("worker", "region", "backend")
MOST_CONTAINERS = 25


class PoolForm(forms.Form):
    """The settings of a pool that its tenant chooses; a new pool is also given its place."""

    LABELS = {
        "min_containers": ("Always warm", "Ready before anybody calls. They cost money while they wait."),
        "buffer_containers": ("In reserve", "Idle ones started ahead while there are calls."),
        "max_containers": ("At most", "When these are full, callers are told that the line is busy."),
        "sessions_per_container": ("Calls on one container", "A change starts new containers beside the old ones."),
        "scaledown_window_seconds": ("Stopped when idle for", ""),
        "snapshots": ("Restore from a snapshot", "New containers begin with their models loaded."),
        "worker": ("Worker", "The engine of the agents that it serves."),
        "region": ("Region", "Near the callers."),
        "backend": ("Backend", ""),
        "is_shared": ("Shared", "It serves every tenant that has no pool of its own."),
    }

    def __init__(self, *args: Any, is_new: bool = False, may_be_shared: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        place = (*PLACE, "is_shared") if may_be_shared else PLACE
        self.fields |= forms.fields_for_model(Pool, fields=(*place, *SHAPE) if is_new else SHAPE)
        for name, field in self.fields.items():
            field.label, field.help_text = self.LABELS[name]
        if is_new:
            workers = [(kind.value, kind.label) for kind in Worker if kind.value in KINDS]
            self.fields["worker"].choices = workers  # type: ignore[attr-defined]
            if len(BACKENDS) == 1:
                self.fields["backend"].widget = forms.HiddenInput()

    def take_over(self, problem: ValidationError) -> None:
        """Show what a journey refused beside the fields that it is about."""
        by_field = problem.message_dict if hasattr(problem, "error_dict") else {"__all__": problem.messages}
        for name, sentences in by_field.items():
            for sentence in sentences:
                self.add_error(name if name in self.fields else None, sentence)

    @classmethod
    def of_pool(cls, pool: Pool) -> PoolForm:
        return cls(initial={name: getattr(pool, name) for name in SHAPE})


@tenant_access(Role.VIEWER)
@require_GET
def pools(request: TenantRequest) -> HttpResponse:
    context = {"standings": pool_standings(), "entitlements": entitlements_of()}
    return page_or_fragment(request, "web/pools/pools.html", "standings", context)


@tenant_access(Role.DEVELOPER)
@require_http_methods(["GET", "POST"])
def pool_new(request: TenantRequest) -> HttpResponse:
    form = PoolForm(request.POST or None, is_new=True, may_be_shared=request.tenant.is_house)
    if request.method == "POST" and form.is_valid():
        try:
            made = journeys.create_pool(actor=request.user, **form.cleaned_data)
        except ValidationError as problem:
            form.take_over(problem)
        else:
            messages.success(request, f"{made} is being deployed.")
            return redirect("web:pool", tenant_slug=request.tenant.slug, pool_id=made.pk)
    context = {"form": form, "entitlements": entitlements_of()}
    return TemplateResponse(request, "web/pools/pool_new.html", context, status=422 if form.errors else 200)


@tenant_access(Role.VIEWER)
@require_GET
def pool(request: TenantRequest, pool_id: uuid.UUID) -> HttpResponse:
    found = get_object_or_404(Pool, pk=pool_id)
    return _pool_page(request, found, PoolForm.of_pool(found))


def _pool_page(request: TenantRequest, found: Pool, form: PoolForm, *, status: int = 200) -> HttpResponse:
    deployments = list(Deployment.objects.filter(pool=found)[:6])
    bills = BilledHour.objects.filter(deployment__in=deployments).by_deployment()
    context = {
        "pool": found,
        "form": form,
        "standing": pool_standings([found])[0],
        "account": found.account,
        "deployments": [(deployment, bills.get(deployment.pk)) for deployment in deployments],
        "bill_problem": bill_problem_of(request.tenant, found.backend),
        "containers": Container.objects.filter(deployment__pool=found).select_related("deployment")[:MOST_CONTAINERS],
    }
    return page_or_fragment(request, "web/pools/pool.html", "state", context, status=status)


@tenant_access(Role.DEVELOPER)
@require_POST
def pool_change(request: TenantRequest, pool_id: uuid.UUID) -> HttpResponse:
    found = get_object_or_404(Pool, pk=pool_id)
    form = PoolForm(request.POST)
    if form.is_valid():
        try:
            journeys.change_pool(pool=found, actor=request.user, **form.cleaned_data)
        except ValidationError as problem:
            form.take_over(problem)
            found.refresh_from_db()
        else:
            messages.success(request, "Saved. It is being applied; calls go on.")
            return redirect("web:pool", tenant_slug=request.tenant.slug, pool_id=found.pk)
    return _pool_page(request, found, form, status=422)


@tenant_access(Role.DEVELOPER)
@require_POST
def pool_switch(request: TenantRequest, pool_id: uuid.UUID) -> HttpResponse:
    """Turn a pool on or off, or have a failed one tried again."""
    found = get_object_or_404(Pool, pk=pool_id)
    try:
        match request.POST.get("action"):
            case "on":
                journeys.set_enabled(pool=found, actor=request.user, enabled=True)
                messages.success(request, "On. Its containers are being started.")
            case "off":
                journeys.set_enabled(pool=found, actor=request.user, enabled=False)
                messages.success(request, "Off. It takes no new calls; those that are there go on to their end.")
            case "again":
                journeys.try_again(pool=found, actor=request.user)
                messages.success(request, "It is being tried again.")
            case _:
                messages.error(request, "That is nothing a pool can do.")
    except ValidationError as problem:
        messages.error(request, " ".join(problem.messages))
    return redirect("web:pool", tenant_slug=request.tenant.slug, pool_id=found.pk)


@tenant_access(Role.DEVELOPER)
@require_GET
def container_log(request: TenantRequest, pool_id: uuid.UUID, container_id: uuid.UUID) -> HttpResponse:
    container = get_object_or_404(
        Container.objects.select_related("deployment__pool"), pk=container_id, deployment__pool_id=pool_id
    )
    try:
        text, problem = _read_log(container), ""
    except BackendError as refusal:
        text, problem = "", refusal.sentence
    context = {"pool": container.deployment.pool, "container": container, "text": text, "problem": problem}
    return page_or_fragment(request, "web/pools/container_log.html", "log", context)


def _read_log(container: Container) -> str:
    async def read() -> str:
        async with make_backend(container.deployment.backend) as backend:
            return await backend.read_log(container.deployment.ref, container.name)

    return async_to_sync(read)()
