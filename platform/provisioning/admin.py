"""The operator's view of pools, what became of them, and what that cost. Changes go through `provisioning.pools`."""

from __future__ import annotations

from django.contrib import admin

from provisioning.models import Account, BilledHour, Container, CostEntry, Deployment, Pool, PriceList
from tenants.admin import ReadOnlyAdmin


@admin.register(Pool)
class PoolAdmin(ReadOnlyAdmin):
    list_display = [
        "tenant",
        "worker",
        "region",
        "backend",
        "is_enabled",
        "is_shared",
        "min_containers",
        "buffer_containers",
        "max_containers",
        "sessions_per_container",
        "snapshots",
    ]
    list_filter = ["worker", "region", "backend", "is_enabled", "is_shared"]
    search_fields = ["tenant__name"]
    list_select_related = ["tenant"]


@admin.register(Deployment)
class DeploymentAdmin(ReadOnlyAdmin):
    list_display = ["name", "tenant", "state", "state_changed_at", "attempts", "problem"]
    list_filter = ["state", "worker", "region", "backend"]
    search_fields = ["name", "tenant__name"]
    list_select_related = ["tenant"]


@admin.register(Container)
class ContainerAdmin(ReadOnlyAdmin):
    list_display = [
        "name",
        "tenant",
        "state",
        "boot",
        "boot_ms",
        "sessions",
        "started_at",
        "ready_at",
        "stopped_at",
        "why",
        "exit_code",
    ]
    list_filter = ["state", "boot", "why"]
    search_fields = ["name", "tenant__name"]
    list_select_related = ["tenant"]


@admin.register(CostEntry)
class CostEntryAdmin(ReadOnlyAdmin):
    list_display = ["occurred_at", "tenant", "part", "nano_dollars", "source", "container", "call_id"]
    list_filter = ["part", "source"]
    search_fields = ["tenant__name", "container"]
    list_select_related = ["tenant"]


@admin.register(BilledHour)
class BilledHourAdmin(ReadOnlyAdmin):
    """What providers billed; with no deployment, it carries our labels and is none of those we know."""

    list_display = [
        "begins_at",
        "tenant",
        "deployment_name",
        "billed_nano_dollars",
        "estimated_nano_dollars",
        "is_known",
    ]
    list_filter = ["backend", ("deployment", admin.EmptyFieldListFilter)]
    search_fields = ["deployment_name", "tenant__name"]
    list_select_related = ["tenant"]

    @admin.display(boolean=True, description="known")
    def is_known(self, hour: BilledHour) -> bool:
        return hour.deployment_id is not None


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    list_display = ["tenant", "backend", "name", "last_four", "saved_at", "left_at", "forgotten_at", "bill_problem"]
    list_filter = ["backend"]
    search_fields = ["name", "tenant__name"]
    list_select_related = ["tenant"]


@admin.register(PriceList)
class PriceListAdmin(ReadOnlyAdmin):
    list_display = ["backend", "since", "rates", "read_at"]
    list_filter = ["backend"]
