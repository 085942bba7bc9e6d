"""The operator's view of agents. Tenants change them on their own pages; here they are only looked at."""

from __future__ import annotations

from django.contrib import admin

from agents.models import Agent, AgentVersion, Appointment
from tenants.admin import ReadOnlyAdmin


@admin.register(Agent)
class AgentAdmin(ReadOnlyAdmin):
    list_display = ["name", "tenant", "vertical", "template_slug", "live_version", "created_at", "archived_at"]
    list_filter = ["vertical"]
    search_fields = ["name", "slug", "tenant__name", "public_key"]
    list_select_related = ["tenant", "live_version__agent"]


@admin.register(AgentVersion)
class AgentVersionAdmin(ReadOnlyAdmin):
    list_display = ["agent", "number", "tenant", "engine", "published_by", "published_at", "note"]
    list_filter = ["engine"]
    search_fields = ["agent__name", "tenant__name"]
    list_select_related = ["tenant", "agent", "published_by"]


@admin.register(Appointment)
class AppointmentAdmin(ReadOnlyAdmin):
    list_display = ["starts_at", "service", "tenant", "status", "created_at"]
    list_filter = ["status"]
    search_fields = ["tenant__name"]
    list_select_related = ["tenant", "service"]
