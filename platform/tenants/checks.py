"""System checks of this app: every view declares who may open it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core import checks
from django.urls import URLPattern, URLResolver, get_resolver

from tenants.access import access_to


@checks.register(checks.Tags.security)
def every_view_declares_its_access(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    messages: list[checks.CheckMessage] = []
    for route, name, view in views():
        access = access_to(view, name)
        if access is None:
            messages.append(
                checks.Error(
                    f"The view {name or view!r} at /{route} does not say who may open it.",
                    hint="Decorate it with one of tenants.access.",
                    id="tenants.E001",
                )
            )
        elif (access.kind == "tenant") != ("<slug:tenant_slug>" in route):
            messages.append(
                checks.Error(
                    f"The view {name} at /{route} must both take tenant_slug and declare tenant_access, or neither.",
                    id="tenants.E002",
                )
            )
    return messages


def views(resolver: URLResolver | None = None, route: str = "", namespace: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield (route, URL name with its namespace, view) of every address of the site."""
    for pattern in (resolver or get_resolver()).url_patterns:
        here = route + str(pattern.pattern).lstrip("^")
        if isinstance(pattern, URLPattern):
            yield here, f"{namespace}{pattern.name or ''}", pattern.callback
        else:
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from views(pattern, here, inner)
