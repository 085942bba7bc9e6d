"""Which connection a query goes to: the scope says (tenants.scope). Migrations run as the owner alone."""

from __future__ import annotations

from typing import Any

from tenants.scope import current_alias


class ScopeRouter:
    def db_for_read(self, model: type, **hints: Any) -> str:
        return current_alias()

    def db_for_write(self, model: type, **hints: Any) -> str:
        return current_alias()

    def allow_relation(self, one: object, other: object, **hints: Any) -> bool:
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "owner"
