from django.apps import AppConfig


class VoiceConfig(AppConfig):
    name = "voice"

    def ready(self) -> None:
        from voice import lookups  # noqa: F401  (look-ups register themselves)
