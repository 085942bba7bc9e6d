"""Answering htmx with a part of a page."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.cache import patch_vary_headers


def page_or_fragment(
    request: HttpRequest, template: str, fragment: str, context: dict[str, Any], *, status: int = 200
) -> TemplateResponse:
    """Return a page, or, when htmx asks, its partial of that name."""
    htmx = request.htmx  # type: ignore[attr-defined]
    # Going back asks through htmx too, and wants the whole page.
    is_part = bool(htmx) and not htmx.history_restore_request
    response = TemplateResponse(request, f"{template}#{fragment}" if is_part else template, context, status=status)
    patch_vary_headers(response, ["HX-Request"])
    return response
