"""Who sent a visitor, kept in their browser until they sign up."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

COOKIE = "via"
KEPT_SECONDS = 90 * 86_400


def remember_referral(request: HttpRequest, response: HttpResponseBase, code: str) -> None:
    """Remember it, unless somebody else sent this visitor before."""
    if referral_code(request):
        return
    response.set_signed_cookie(
        COOKIE, code, max_age=KEPT_SECONDS, httponly=True, samesite="Lax", secure=settings.SESSION_COOKIE_SECURE
    )


def referral_code(request: HttpRequest) -> str:
    """Return the code of whoever sent a visitor; empty where nobody did, or where the cookie is not ours."""
    return request.get_signed_cookie(COOKIE, default="", max_age=KEPT_SECONDS) or ""
