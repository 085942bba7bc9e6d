"""System check: the catalogue can be read."""

from __future__ import annotations

from typing import Any

from django.core import checks

from agents.catalog import CatalogError, all_templates


@checks.register()
def the_catalogue_is_of_its_form(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    try:
        all_templates()
    except CatalogError as problem:
        return [checks.Error(str(problem), hint="platform/agents/catalog/schema.json says the form.", id="agents.E001")]
    return []
