"""The operator's view of calls."""

from __future__ import annotations

from django.contrib import admin
from unfold.admin import TabularInline

from tenants.admin import ReadOnlyAdmin
from voice.models import Call, CallLease, Session, Turn


class TurnInline(TabularInline):
    model = Turn
    extra = 0
    can_delete = False
    fields = readonly_fields = [
        "index",
        "at_ms",
        "turn_ms",
        "end_of_turn_ms",
        "stt_ms",
        "llm_ttft_ms",
        "tts_ttfb_ms",
        "other_ms",
    ]

    def has_add_permission(self, request: object, obj: object = None) -> bool:
        return False


class SessionInline(TabularInline):
    model = Session
    extra = 0
    can_delete = False
    fields = readonly_fields = [
        "role",
        "container",
        "granted_at",
        "ended_at",
        "reserve_ms",
        "connect_ms",
        "active_ms",
        "boot",
        "gap_ms",
        "why_ended",
    ]

    def has_add_permission(self, request: object, obj: object = None) -> bool:
        return False


@admin.register(Call)
class CallAdmin(ReadOnlyAdmin):
    list_display = [
        "id",
        "tenant",
        "agent",
        "status",
        "channel",
        "started_at",
        "duration_ms",
        "end_reason",
        "boot",
        "ready_ms",
        "first_audio_ms",
        "failovers",
        "resumes",
        "cost_nano_dollars",
    ]
    list_filter = ["status", "channel", "end_reason", "boot", "region"]
    search_fields = ["id", "tenant__name"]
    list_select_related = ["tenant", "agent"]
    date_hierarchy = "started_at"
    inlines = [SessionInline, TurnInline]


@admin.register(CallLease)
class CallLeaseAdmin(ReadOnlyAdmin):
    list_display = ["call_id", "tenant", "expires_at"]
    list_select_related = ["tenant"]
