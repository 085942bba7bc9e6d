"""WebSocket addresses of the web process: live updates for open pages."""

from django.urls import path

from voice.consumers import FleetUpdates, TenantUpdates

websocket_urlpatterns = [
    path("t/<slug:tenant_slug>/live/", TenantUpdates.as_asgi()),
    path("fleet/live/", FleetUpdates.as_asgi()),
]
