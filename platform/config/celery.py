"""The Celery application: `celery -A config worker` and `celery -A config beat`."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import django
from celery import Celery
from celery.signals import beat_init, import_modules, setup_logging, worker_init, worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("warmline")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def use_our_logging(**kwargs: Any) -> None:
    """Keep Celery from setting up logging its own way; Django's set-up does it ours."""
    django.setup()


@import_modules.connect(sender=app)
def take_schedules(**kwargs: Any) -> None:
    """Let beat drive what each app's `tasks.BEAT_SCHEDULE` names."""
    django.setup()
    from django.apps import apps

    for config in apps.get_app_configs():
        if importlib.util.find_spec(f"{config.name}.tasks"):
            tasks = importlib.import_module(f"{config.name}.tasks")
            app.conf.beat_schedule.update(getattr(tasks, "BEAT_SCHEDULE", {}))


@worker_ready.connect
def catch_up(**kwargs: Any) -> None:
    """Drive at once what beat will drive later: whatever went on without us is not to wait for its turn."""
    for entry in app.conf.beat_schedule.values():
        app.send_task(entry["task"], **entry.get("options", {}))


@worker_init.connect
@beat_init.connect
def check_settings(**kwargs: Any) -> None:
    from config.checks import refuse_insecure_start

    refuse_insecure_start()
