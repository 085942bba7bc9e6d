"""Addresses of pages. Everything under /t/<tenant>/ is a tenant's own, and its views declare the role they need."""

from django.urls import URLPattern, URLResolver, path

from web.views import people, styleguide
from web.views import public as public_views

app_name = "web"

public: list[URLPattern | URLResolver] = [
    path("", public_views.home, name="home"),
    path("pricing/", public_views.pricing, name="pricing"),
    path("demo/ticket/", public_views.demo_ticket, name="demo_ticket"),
    path("dashboard/", people.dashboard, name="dashboard"),
    path("invitations/<str:token>/", people.invitation, name="invitation"),
    path("styleguide/", styleguide.styleguide, name="styleguide"),
]

tenant: list[URLPattern | URLResolver] = []

operator: list[URLPattern | URLResolver] = []

urlpatterns = [*public, *tenant, *operator]
