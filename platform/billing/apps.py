from django.apps import AppConfig
from django.db.models.signals import post_migrate


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        from billing import checks, lookups  # noqa: F401  (checks and look-ups register themselves)
        from billing.plans import load_plans_after_migrate

        post_migrate.connect(load_plans_after_migrate, sender=self)
