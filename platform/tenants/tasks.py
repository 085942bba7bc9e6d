"""Celery tasks that enter their tenant first, queueing them once the transaction stands, and what beat repeats."""

from __future__ import annotations

import functools
from typing import Any

from celery import Task
from django.db import transaction

from tenants.scope import current_alias, enter_tenant


class TenantTask(Task):
    """A task of one tenant: called with `tenant_id=…`, which is entered around the body and not passed to it."""

    abstract = True
    typing = False  # Celery would compare the arguments with the body's, which knows no tenant_id

    def __call__(self, *args: Any, tenant_id: str, **kwargs: Any) -> Any:
        with enter_tenant(tenant_id):
            return super().__call__(*args, **kwargs)


def delay_on_commit(task: Task, **kwargs: Any) -> None:
    """Queue a task when the current transaction commits; at once where there is none."""
    transaction.on_commit(functools.partial(task.delay, **kwargs), using=current_alias())


def every(seconds: float, task: str, *, kept_seconds: float | None = None) -> dict[str, Any]:
    """Return the entry of a `BEAT_SCHEDULE` for a task.

    A run that could not start within `kept_seconds`, by default until the next, is dropped: the next does its work.
    """
    return {"task": task, "schedule": seconds, "options": {"expires": kept_seconds or seconds}}
