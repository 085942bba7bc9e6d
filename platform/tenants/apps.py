from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TenantsConfig(AppConfig):
    name = "tenants"

    def ready(self) -> None:
        from tenants import checks, isolation, lookups  # noqa: F401  (checks and look-ups register themselves)

        post_migrate.connect(isolation.secure_after_migrate, sender=self)
