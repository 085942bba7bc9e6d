"""A tenant's own Modal workspace on the page Services: saved once Modal knows the token, never shown again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from provisioning import vault
from provisioning.models import Account, BilledHour, Pool
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.modal_server.pools import modal_for_pools
from tests.modal_server.processes import ModalServer
from tests.provisioning.factories import STARTED_AT, build_deployment, build_pool
from tests.web import factories
from tests.web.pages import words

PAGE = "/t/acme/services/"
SAVE = f"{PAGE}accounts/modal/"


@pytest.fixture(scope="module")
def modal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModalServer]:
    with pytest.MonkeyPatch.context() as patch, modal_for_pools(tmp_path_factory.mktemp("modal"), patch) as server:
        yield server


@pytest.fixture
def pool(acme: Tenant, modal: ModalServer) -> Pool:
    return build_pool(acme, backend="modal", region="us-east")


def account_of(tenant: Tenant) -> Account:
    with enter_tenant(tenant.pk):
        return Account.objects.in_use().get()


def test_a_token_that_modal_knows_is_saved_and_not_shown(
    client_of: Any, acme: Tenant, alice: User, pool: Pool, modal: ModalServer
) -> None:
    assert "The operator's workspace" in client_of(alice).get(PAGE).content.decode().replace("&#x27;", "'")
    token = modal.own_tokens[0]
    page = client_of(alice).post(SAVE, token, follow=True).content.decode()
    assert "Saved: Modal workspace tenants-own." in page and f"…{token['token_id'][-4:]}" in page
    assert token["token_id"] not in page and token["token_secret"] not in page
    assert async_to_sync(vault.in_use().read)(account_of(acme).ref) == token
    with enter_tenant(acme.pk):
        assert Pool.objects.get().changed_at > pool.changed_at, "the pool is to stand there"
    assert "your workspace tenants-own" in client_of(alice).get(f"/t/acme/pools/{pool.pk}/").content.decode()


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (
            {"token_id": "ak-1234", "token_secret": "as-no-ones-secret"},
            "Modal refuses the credentials: Token is invalid.",
        ),
        ({"token_id": "ak-1234", "token_secret": "two words"}, "one word of letters, digits and signs"),
        ({"token_id": "", "token_secret": "as-no-ones-secret"}, "This field is required"),
    ],
)
def test_what_modal_does_not_know_is_told_and_not_saved(
    token: dict[str, str], sentence: str, client_of: Any, acme: Tenant, alice: User, modal: ModalServer
) -> None:
    answer = client_of(alice).post(SAVE, token)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert sentence in page and token["token_secret"] not in page
    with enter_tenant(acme.pk):
        assert not Account.objects.exists()


def test_a_workspace_is_left_by_its_own_tenant_alone(
    client_of: Any, acme: Tenant, rival: Tenant, alice: User, charlie: User, modal: ModalServer
) -> None:
    client_of(alice).post(SAVE, modal.own_tokens[0])
    account = account_of(acme)
    assert client_of(charlie).post(f"/t/rival/services/accounts/{account.pk}/remove/").status_code == 404
    assert client_of(charlie).post(f"{PAGE}accounts/{account.pk}/remove/").status_code == 404
    assert "tenants-own" not in client_of(charlie).get("/t/rival/services/").content.decode()
    assert client_of(alice).post(f"{PAGE}accounts/nowhere/", modal.own_tokens[0]).status_code == 404
    page = client_of(alice).post(f"{PAGE}accounts/{account.pk}/remove/", follow=True).content.decode()
    assert "is being left" in page and "its last hours are being billed" in page
    with enter_tenant(acme.pk):
        assert not Account.objects.in_use().exists()


def test_those_who_do_not_administer_see_nothing_of_it(client_of: Any, acme: Tenant, bob: User) -> None:
    dora = factories.add_developer(acme)
    for user in (bob, dora):
        assert client_of(user).get(PAGE).status_code == 403
        assert client_of(user).post(SAVE, {"token_id": "ak-1234", "token_secret": "as-1234"}).status_code == 403


def test_a_pools_page_says_what_was_billed_and_what_was_estimated(
    client_of: Any, acme: Tenant, bob: User, pool: Pool
) -> None:
    deployment = build_deployment(pool)
    with enter_tenant(acme.pk):
        hour = BilledHour.objects.create(
            deployment=deployment, backend="modal", deployment_name=deployment.name, begins_at=STARTED_AT
        )
        hour.take_lines({"ap-1": 2_500_000_000})
        hour.save()
        hour.become_compared(estimated=2_000_000_000)
    said = words(client_of(bob).get(f"/t/acme/pools/{pool.pk}/").content.decode())
    assert "$2.50 $2.00 estimated, 1 h" in said
