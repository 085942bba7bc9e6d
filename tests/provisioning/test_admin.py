"""The operator's lists of pools, deployments, containers and costs: to be read, and by the operator alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from provisioning.models import Account, BilledHour
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.provisioning.factories import STARTED_AT, build_active_cost, build_container, build_deployment, build_pool

LISTS = ["pool", "deployment", "container", "costentry", "billedhour", "account"]


@pytest.fixture
def something_of_everything(acme: Tenant) -> None:
    deployment = build_deployment(build_pool(acme))
    container = build_container(deployment)
    with enter_tenant(acme.pk):
        BilledHour.objects.create(
            deployment=deployment, backend="modal", deployment_name=deployment.name, begins_at=STARTED_AT
        )
        Account.objects.create(backend="modal", last_four="1234")
    build_active_cost(container, tenant=acme, from_seconds=10, to_seconds=20, nano_dollars=68_000)


@pytest.mark.parametrize("name", LISTS)
def test_the_operator_reads_a_list_and_changes_nothing_there(
    name: str, something_of_everything: None, olivia: User, client_of: Callable[[User], Client]
) -> None:
    client = client_of(olivia)
    page = client.get(f"/admin/provisioning/{name}/")
    assert page.status_code == 200 and b"Acme" in page.content
    assert client.get(f"/admin/provisioning/{name}/add/").status_code == 403


@pytest.mark.parametrize("name", LISTS)
def test_a_tenants_owner_does_not_see_it(
    name: str, something_of_everything: None, alice: User, client_of: Callable[[User], Client]
) -> None:
    assert client_of(alice).get(f"/admin/provisioning/{name}/").status_code == 404
