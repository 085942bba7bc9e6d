"""The seam for a content database of its own: where CONTENT_ALIAS is set, content goes there; nothing refers across."""

from __future__ import annotations

from typing import Any

from django.conf import settings


class ContentRouter:
    def db_for_read(self, model: type, **hints: Any) -> str | None:
        return settings.CONTENT_ALIAS or None if model._meta.app_label == "content" else None  # type: ignore[attr-defined]

    db_for_write = db_for_read

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool | None:
        return None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return None
