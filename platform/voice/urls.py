"""Addresses for workers, below /internal/."""

from django.urls import path

from voice import tool_calls

app_name = "voice"
urlpatterns = [
    path("calls/<uuid:call_id>/tools/<str:name>", tool_calls.run_call_tool, name="tool"),
]
