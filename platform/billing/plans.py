"""The plans of a new installation, from plans.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from django.apps import apps

PLANS_FILE = Path(__file__).with_name("plans.toml")


def load_plans_after_migrate(sender: object, using: str, **kwargs: Any) -> None:
    """Handle post_migrate: add the plans that are missing; an operator's changes to the others stay."""
    if using != "owner" or not _table_stands():
        return
    plan_model = apps.get_model("billing", "Plan")
    for position, (slug, fields) in enumerate(tomllib.loads(PLANS_FILE.read_text()).items()):
        plan_model.objects.using(using).get_or_create(slug=slug, defaults={**fields, "position": position})


def _table_stands() -> bool:
    from django.db import connections

    return "billing_plan" in connections["owner"].introspection.table_names()
