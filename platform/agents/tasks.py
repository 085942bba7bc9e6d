"""Background work of agents."""

from __future__ import annotations

from celery import shared_task
from django.core.mail import send_mail

from tenants.models import Membership
from tenants.tasks import TenantTask


@shared_task(base=TenantTask, autoretry_for=(OSError,), retry_backoff=10, max_retries=5)
def mail_owners(*, subject: str, body: str) -> None:
    """Send a mail to the owners of the entered tenant."""
    addresses = list(Membership.objects.owners().values_list("user__email", flat=True))
    if addresses:
        send_mail(subject, body, None, addresses)
