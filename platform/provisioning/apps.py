from django.apps import AppConfig


class ProvisioningConfig(AppConfig):
    name = "provisioning"

    def ready(self) -> None:
        from billing.sealing import Ledger, register_ledger
        from provisioning import lookups  # noqa: F401  (look-ups register themselves)
        from provisioning.models import CostEntry

        register_ledger(Ledger("cost", CostEntry, CostEntry.SEALED_FIELDS, amount="nano_dollars"))
