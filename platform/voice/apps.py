from django.apps import AppConfig


class VoiceConfig(AppConfig):
    name = "voice"

    def ready(self) -> None:
        from provisioning import vault
        from voice import lookups  # noqa: F401  (look-ups register themselves)
        from voice.vault import ContentVault

        vault.use(ContentVault())
