"""The Celery application: `celery -A config worker` and `celery -A config beat`."""

from __future__ import annotations

import logging.config
import os
from typing import Any

import django
from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("warmline")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def use_our_logging(**kwargs: Any) -> None:
    from django.conf import settings

    django.setup()
    logging.config.dictConfig(settings.LOGGING)
