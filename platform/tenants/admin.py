"""The operator's view of tenants and people. It runs in the operator's scope (tenants.middleware)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from tenants import audit
from tenants.access import SignedInRequest
from tenants.models import ApiKey, AuditEntry, Invitation, Membership, Tenant, User
from tenants.scope import enter_tenant
from tenants.standing import restore_tenant, suspend_tenant

admin.site.unregister(Group)


class ReadOnlyAdmin(ModelAdmin):
    """Rows that nobody edits by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    ordering = ["email"]
    list_display = ["email", "first_name", "last_name", "is_superuser", "is_active", "last_login"]
    search_fields = ["email", "first_name", "last_name"]
    fieldsets = [
        (None, {"fields": ["email", "password"]}),
        ("Person", {"fields": ["first_name", "last_name"]}),
        ("Operator", {"fields": ["is_active", "is_staff", "is_superuser"]}),
    ]
    add_fieldsets = [(None, {"fields": ["email", "password1", "password2"]})]


@admin.register(Tenant)
class TenantAdmin(ModelAdmin):
    list_display = ["name", "slug", "status", "time_zone", "is_house", "created_at"]
    list_filter = ["status"]
    search_fields = ["name", "slug"]
    readonly_fields = ["status", "status_reason", "created_at"]
    actions = ["suspend", "restore"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # A tenant comes with an owner and a subscription: billing.accounts.open_account.

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.action(description="Suspend: refuse new calls")
    def suspend(self, request: SignedInRequest, queryset: Any) -> None:
        for tenant in queryset:
            suspend_tenant(tenant=tenant, actor=request.user)
        messages.success(request, "Suspended. Live calls go on to their end; new ones are refused.")

    @admin.action(description="Restore")
    def restore(self, request: SignedInRequest, queryset: Any) -> None:
        for tenant in queryset:
            restore_tenant(tenant=tenant, actor=request.user)
        messages.success(request, "Restored.")

    def save_model(self, request: SignedInRequest, obj: Tenant, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        with enter_tenant(obj.pk):
            audit.record(
                action="tenant.changed", target=obj.name, actor=request.user, details={"fields": form.changed_data}
            )


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display = ["user", "tenant", "role", "created_at"]
    list_filter = ["role"]
    search_fields = ["user__email", "tenant__name"]
    list_select_related = ["user", "tenant"]


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    list_display = ["email", "tenant", "role", "created_at", "accepted_at"]
    exclude = ["token_hash"]
    list_select_related = ["tenant"]


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ["name", "tenant", "prefix", "scopes", "created_at", "last_used_at", "revoked_at"]
    exclude = ["key_hash"]
    list_select_related = ["tenant"]


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ["occurred_at", "tenant", "actor_name", "action", "target"]
    list_filter = ["action"]
    search_fields = ["actor_name", "target", "tenant__name"]
    list_select_related = ["tenant"]
