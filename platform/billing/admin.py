"""The operator's view of plans, subscriptions and the usage ledger."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from billing.models import Caps, Plan, Subscription, Usage
from tenants import audit
from tenants.access import SignedInRequest
from tenants.admin import ReadOnlyAdmin
from tenants.scope import enter_tenant


@admin.register(Plan)
class PlanAdmin(ModelAdmin):
    list_display = [
        "name",
        "monthly_price_cents",
        "max_agents",
        "max_concurrent_calls",
        "included_minutes",
        "overage_cents_per_minute",
        "is_public",
    ]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Subscription)
class SubscriptionAdmin(ModelAdmin):
    list_display = ["tenant", "plan", "status", "trial_ends_at", "period_started_at"]
    list_filter = ["plan", "status"]
    search_fields = ["tenant__name"]
    list_select_related = ["tenant", "plan"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: SignedInRequest, obj: Subscription, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        with enter_tenant(obj.tenant_id):
            audit.record(
                action="subscription.changed",
                target=obj.plan,
                actor=request.user,
                details={"fields": form.changed_data, "status": obj.status},
            )


@admin.register(Caps)
class CapsAdmin(ReadOnlyAdmin):
    list_display = ["tenant", "soft_minutes", "hard_minutes", "soft_spend_cents", "hard_spend_cents", "warned_of"]
    list_select_related = ["tenant"]


@admin.register(Usage)
class UsageAdmin(ReadOnlyAdmin):
    list_display = ["occurred_at", "tenant", "kind", "quantity", "call_id"]
    list_filter = ["kind"]
    list_select_related = ["tenant"]
