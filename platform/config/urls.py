"""Addresses of the web process."""

from django.contrib import admin
from django.urls import include, path

from web.views import operation

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
    path("internal/", include("voice.urls")),
    path("telephone/", include("voice.telephony.urls")),
    path("healthz", operation.healthz, name="healthz"),
    path("metrics", operation.metrics, name="metrics"),
    path("", include("web.urls")),
]
