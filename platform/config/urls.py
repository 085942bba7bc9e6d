"""Addresses of the web process."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
    path("internal/", include("voice.urls")),
    path("", include("web.urls")),
]
