"""The operator's view of plans, subscriptions, what was used and paid, and what Stripe told."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin

from billing.models import (
    Affiliate,
    AffiliateEarning,
    BillingPeriod,
    Caps,
    Invoice,
    Notice,
    OverageReport,
    Plan,
    Refund,
    StripeEvent,
    Subscription,
    Usage,
)
from billing.tasks import process_event
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
        "reserved_for",
        "at_stripe",
    ]
    list_select_related = ["reserved_for"]
    fieldsets = [
        (None, {"fields": ["name", "slug", "position", "is_public", "reserved_for"]}),
        ("Price", {"fields": ["currency", "monthly_price_cents", "overage_cents_per_minute", "trial_days"]}),
        (
            "What it entitles to",
            {
                "fields": [
                    "included_minutes",
                    "max_agents",
                    "max_concurrent_calls",
                    "max_regions",
                    "max_warm_containers",
                    "max_numbers",
                    "retention_days",
                    "regulated",
                    "support",
                ]
            },
        ),
        (
            "At Stripe",
            {
                "fields": ["stripe_product_id", "stripe_price_id", "stripe_overage_price_id"],
                "description": "Leave these empty and run manage.py sync_plans, which makes them; or enter a price "
                "that Stripe has already. A changed amount needs a sync too: those who subscribed before keep theirs.",
            },
        ),
    ]

    @admin.display(boolean=True, description="For sale")
    def at_stripe(self, plan: Plan) -> bool:
        return plan.is_for_sale

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["slug"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Subscription)
class SubscriptionAdmin(ModelAdmin):
    list_display = ["tenant", "plan", "status", "trial_ends_at", "period_started_at", "calls_end_at"]
    list_filter = ["plan", "status"]
    search_fields = ["tenant__name", "stripe_customer_id", "stripe_subscription_id"]
    list_select_related = ["tenant", "plan"]
    readonly_fields = ["stripe_subscription_id", "calls_end_at", "synced_at"]
    fieldsets = [
        (None, {"fields": ["plan", "status", "calls_end_at"]}),
        (
            "When",
            {
                "fields": [
                    "trial_ends_at",
                    "period_started_at",
                    "period_ends_at",
                    "grace_ends_at",
                    "cancels_at",
                    "ended_at",
                ]
            },
        ),
        (
            "At Stripe",
            {
                "fields": ["stripe_customer_id", "stripe_subscription_id", "next_plan", "synced_at"],
                "description": "While there is a customer, Stripe decides, and what is changed here is written over. "
                "Empty the customer to decide here.",
            },
        ),
    ]

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


@admin.register(Invoice)
class InvoiceAdmin(ReadOnlyAdmin):
    list_display = ["__str__", "tenant", "status", "total_cents", "currency", "created_at", "paid_at"]
    list_filter = ["status", "currency"]
    search_fields = ["number", "stripe_id", "tenant__name"]
    list_select_related = ["tenant"]


@admin.register(Refund)
class RefundAdmin(ReadOnlyAdmin):
    list_display = ["stripe_id", "tenant", "invoice", "status", "amount_cents", "currency", "created_at"]
    list_select_related = ["tenant", "invoice"]


@admin.register(BillingPeriod)
class BillingPeriodAdmin(ReadOnlyAdmin):
    list_display = ["tenant", "starts_at", "ends_at", "included_seconds", "stripe_subscription_id"]
    list_select_related = ["tenant"]


@admin.register(OverageReport)
class OverageReportAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "tenant", "seconds", "metered_at", "tried_at", "sent_at"]
    list_select_related = ["tenant"]
    actions = ["send_again", "count_as_sent"]

    @admin.action(description="Send again: the meter at Stripe does not have it")
    def send_again(self, request: SignedInRequest, queryset: QuerySet[OverageReport]) -> None:
        self._decide(request, queryset, "sent again", tried_at=None)

    @admin.action(description="Count as sent: the meter at Stripe has it")
    def count_as_sent(self, request: SignedInRequest, queryset: QuerySet[OverageReport]) -> None:
        self._decide(request, queryset, "counted as sent", sent_at=timezone.now())

    def _decide(self, request: SignedInRequest, queryset: QuerySet[OverageReport], words: str, **values: Any) -> None:
        unsent = list(queryset.filter(sent_at=None))
        for report in unsent:
            with enter_tenant(report.tenant_id):
                OverageReport.objects.filter(pk=report.pk).update(**values)
                audit.record(action="overage.decided", target=report, actor=request.user, details={"as": words})
        messages.success(request, f"{len(unsent)} reports are {words}.")


@admin.register(Notice)
class NoticeAdmin(ReadOnlyAdmin):
    list_display = ["sent_at", "tenant", "key"]
    list_select_related = ["tenant"]


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "type", "id", "received_at", "processed_at", "attempts", "problem"]
    list_filter = ["type", ("processed_at", admin.EmptyFieldListFilter)]
    search_fields = ["id", "body"]
    actions = ["process_again"]

    @admin.action(description="Process again: Stripe is asked how things stand")
    def process_again(self, request: SignedInRequest, queryset: QuerySet[StripeEvent]) -> None:
        for event in queryset:
            process_event.delay(event_id=event.pk)
        messages.success(request, f"{len(queryset)} events are queued.")


@admin.register(Affiliate)
class AffiliateAdmin(ModelAdmin):
    list_display = ["user", "code", "share_percent", "is_active", "joined_at"]
    search_fields = ["user__email", "code"]
    readonly_fields = ["user", "code", "joined_at"]
    list_select_related = ["user"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(AffiliateEarning)
class AffiliateEarningAdmin(ReadOnlyAdmin):
    list_display = ["occurred_at", "affiliate", "month_date", "base_cents", "earned_cents", "currency", "key"]
    list_filter = ["month_date"]
    list_select_related = ["affiliate__user"]
