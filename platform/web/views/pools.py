"""Pools: how many workers are kept where, what became of that, and what a container writes to its log."""

from __future__ import annotations

import uuid

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from billing.entitlements import entitlements_of
from provisioning import pools as journeys
from provisioning.backends import make_backend
from provisioning.backends.contract import BackendError
from provisioning.importing import bill_problem_of
from provisioning.models import BilledHour, Container, Deployment, Pool
from provisioning.standing import pool_standings
from tenants.access import TenantRequest, tenant_access
from tenants.models import Role
from web.fragments import page_or_fragment
from web.log_lines import read_log_lines
from web.pool_forms import PoolForm, RegionForm, WindowForms
from web.warm_week import strips_of

MOST_CONTAINERS = 25


@tenant_access(Role.VIEWER)
@require_GET
def pools(request: TenantRequest) -> HttpResponse:
    return _pools_page(request, RegionForm(initial={"region": request.tenant.region}))


def _pools_page(request: TenantRequest, form: RegionForm, *, status: int = 200) -> HttpResponse:
    context = {"standings": pool_standings(), "entitlements": entitlements_of(), "region_form": form}
    return page_or_fragment(request, "web/pools/pools.html", "standings", context, status=status)


@tenant_access(Role.DEVELOPER)
@require_POST
def pools_region_change(request: TenantRequest) -> HttpResponse:
    """Say where the tenant's callers mostly are."""
    form = RegionForm(request.POST)
    if not form.is_valid():
        return _pools_page(request, form, status=422)
    journeys.choose_region(tenant=request.tenant, region=form.cleaned_data["region"], actor=request.user)
    messages.success(request, "Saved. It holds for the next call of which nobody says where it comes from.")
    return redirect("web:pools", tenant_slug=request.tenant.slug)


@tenant_access(Role.DEVELOPER)
@require_http_methods(["GET", "POST"])
def pool_new(request: TenantRequest) -> HttpResponse:
    form = PoolForm(request.POST or None, is_operators=request.tenant.is_house)
    if request.method == "POST" and form.is_valid():
        try:
            made = journeys.create_pool(actor=request.user, **form.chosen)
        except ValidationError as problem:
            form.take_over(problem)
        else:
            messages.success(request, f"{made} is being deployed.")
            return _to_pool(request, made)
    context = {"form": form, "entitlements": entitlements_of()}
    return TemplateResponse(request, "web/pools/pool_new.html", context, status=422 if form.errors else 200)


@tenant_access(Role.VIEWER)
@require_GET
def pool(request: TenantRequest, pool_id: uuid.UUID) -> HttpResponse:
    return _pool_page(request, _pool(pool_id))


def _pool(pool_id: uuid.UUID) -> Pool:
    return get_object_or_404(Pool.objects.select_related("tenant"), pk=pool_id)


def _to_pool(request: TenantRequest, found: Pool) -> HttpResponse:
    return redirect("web:pool", tenant_slug=request.tenant.slug, pool_id=found.pk)


def _pool_page(
    request: TenantRequest,
    found: Pool,
    *,
    form: PoolForm | None = None,
    windows: WindowForms | None = None,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    """`problem`: what is wrong with the windows as a whole."""
    deployments = list(Deployment.objects.filter(pool=found)[:6])
    bills = BilledHour.objects.filter(deployment__in=deployments).by_deployment()
    context = {
        "pool": found,
        "form": form or PoolForm.of_pool(found, is_operators=request.tenant.is_house),
        "windows": windows or WindowForms.of_pool(found),
        "windows_problem": problem,
        "week": strips_of(found.schedule.windows),
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
    found = _pool(pool_id)
    form = PoolForm(request.POST, pool=found, is_operators=request.tenant.is_house)
    if form.is_valid():
        before = found.spec().spec_hash()
        try:
            journeys.change_pool(pool=found, actor=request.user, **form.cleaned_data)
        except ValidationError as problem:
            form.take_over(problem)
            found.refresh_from_db()
        else:
            if not found.is_enabled:
                messages.success(request, "Saved. It holds once the pool is turned on.")
            elif found.spec().spec_hash() == before:
                messages.success(request, "Saved. It is being applied; calls go on.")
            else:
                messages.success(request, "Saved. A new deployment starts beside the old one, on which calls go on.")
            return _to_pool(request, found)
    return _pool_page(request, found, form=form, status=422)


@tenant_access(Role.DEVELOPER)
@require_POST
def pool_hours_change(request: TenantRequest, pool_id: uuid.UUID) -> HttpResponse:
    found, problem = _pool(pool_id), ""
    windows = WindowForms(request.POST)
    if windows.is_valid():
        try:
            journeys.change_pool(
                pool=found, actor=request.user, warm_hours=windows.documents(without=request.POST.get("remove", ""))
            )
        except ValidationError as refusal:
            problem = " ".join(refusal.messages)
            found.refresh_from_db()
        else:
            messages.success(request, "The warm hours are saved. No container that has a call is touched.")
            return _to_pool(request, found)
    return _pool_page(request, found, windows=windows, problem=problem, status=422)


@tenant_access(Role.DEVELOPER)
@require_POST
def pool_switch(request: TenantRequest, pool_id: uuid.UUID) -> HttpResponse:
    """Turn a pool on or off, or have a failed one tried again."""
    found = _pool(pool_id)
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
    return _to_pool(request, found)


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
    context = {
        "pool": container.deployment.pool,
        "container": container,
        "lines": read_log_lines(text),
        "problem": problem,
    }
    return page_or_fragment(request, "web/pools/container_log.html", "log", context)


def _read_log(container: Container) -> str:
    async def read() -> str:
        async with make_backend(container.deployment.backend) as backend:
            return await backend.read_log(container.deployment.ref, container.name)

    return async_to_sync(read)()
