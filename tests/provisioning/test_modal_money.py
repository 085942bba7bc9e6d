"""Bills, prices and tenants' own workspaces on Modal, through the real SDK and a stand-in for Modal's servers."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.utils import timezone
from modal_proto import api_pb2
from structlog.testing import capture_logs

from provisioning import applying, vault
from provisioning.accounts import BadCredentials, leave_account, save_account
from provisioning.backends.contract import AccountRef
from provisioning.correcting import correct_hours
from provisioning.forgetting import forget_left_accounts
from provisioning.importing import import_bills
from provisioning.models import Account, BackendStanding, BilledHour, Container, CostEntry, Deployment, Pool, PriceList
from provisioning.pools import set_enabled, try_again
from provisioning.pricing import read_prices
from provisioning.reconciling import reconcile
from provisioning.settling import hour_of, settle_containers
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_operator, enter_tenant
from tests.modal_server.pools import become_ready, modal_for_pools, state_of
from tests.modal_server.processes import OPERATORS, TENANTS, ModalServer
from tests.provisioning.factories import build_active_cost, build_deployment, build_pool
from tests.provisioning.test_modal_pools import manage
from tests.voice.processes import wait_until

HOUR = datetime.timedelta(hours=1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModalServer]:
    with pytest.MonkeyPatch.context() as patch, modal_for_pools(tmp_path_factory.mktemp("modal"), patch) as server:
        yield server


@pytest.fixture
def modal(running: ModalServer, database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModalServer]:
    monkeypatch.setattr("provisioning.models.deployments.FOLLOW_SECONDS", {})
    monkeypatch.setattr(applying, "QUIET_SECONDS", 0.0)
    for workspace in (OPERATORS, TENANTS):
        running.change(workspace=workspace, bill=[], rates={})
    yield running
    for app in standing(running):
        running.change(workspace=app["workspace"], stop=app["id"])
    running.change(admit={token["token_id"]: token["token_secret"] for token in running.own_tokens})


@pytest.fixture
def pool(acme: Tenant, modal: ModalServer) -> Pool:
    return build_pool(acme, backend="modal", region="us-east")


def standing(modal: ModalServer) -> list[dict[str, Any]]:
    return [app for app in modal.running()["apps"] if app["state"] != api_pb2.APP_STATE_STOPPED]


def where(modal: ModalServer) -> dict[str, str]:
    """Return the workspaces that Apps stand in."""
    return {app["name"]: app["workspace"] for app in standing(modal)}


def stand(pool: Pool) -> Deployment:
    """Have a deployment stand at Modal that counts as ready, with no container started for it."""
    deployment = build_deployment(pool)
    apply(pool)
    return deployment


def apply(pool: Pool) -> None:
    assert applying.apply_pool(pool.tenant_id, pool.pk)


def save(tenant: Tenant, credentials: dict[str, str], actor: User | None = None) -> Account:
    with enter_tenant(tenant.pk):
        return save_account(backend="modal", credentials=credentials, actor=actor)


def stored(tenant: Tenant, account: Account) -> Any:
    return async_to_sync(vault.in_use().read)(AccountRef(str(tenant.pk), str(account.pk)))


def trail(tenant: Tenant) -> list[str]:
    with enter_tenant(tenant.pk):
        entries = AuditEntry.objects.filter(action__startswith="account.").order_by("occurred_at")
        return list(entries.values_list("action", flat=True))


def billed(deployment: Deployment, since: datetime.datetime, dollars: str, **more: Any) -> dict[str, Any]:
    return {
        "object_id": "ap-1",
        "description": deployment.name,
        "interval": since.isoformat(),
        "cost": dollars,
        "tags": deployment.specification.tags,
        **more,
    }


# --- bills -----------------------------------------------------------------------------------------------------------
def test_a_call_on_modal_costs_in_the_end_what_modal_billed(acme: Tenant, pool: Pool, modal: ModalServer) -> None:
    deployment = become_ready(pool)
    with enter_tenant(acme.pk):
        container = Container.objects.select_related("deployment").get()
        began = hour_of(container.started_at)
    build_active_cost(container, tenant=acme, from_seconds=1, to_seconds=2, nano_dollars=5)
    with enter_tenant(acme.pk):
        set_enabled(pool=Pool.objects.get(), actor=None, enabled=False)
    wait_until(lambda: apply(pool) or state_of(deployment) == "stopped", within_seconds=60, what="its end")

    tomorrow = timezone.now() + datetime.timedelta(days=1)
    settle_containers(tomorrow)
    modal.change(
        bill=[
            billed(deployment, began, "0.1234567894"),
            billed(deployment, began, "0.5", object_id="ap-2", tags={"team": "research"}),
        ]
    )
    assert import_bills(tomorrow).hours == 1
    correct_hours(tomorrow)
    with enter_tenant(acme.pk):
        entries = CostEntry.objects.filter(occurred_at__gte=began, occurred_at__lt=began + HOUR)
        assert entries.total() == 123_456_789
        assert entries.filter(source="provider").exclude(call_id=None).exists()
    assert import_bills(tomorrow).hours == 0 and correct_hours(tomorrow) == 0

    modal.change(bill=[billed(deployment, began, "0.2")])
    assert import_bills(tomorrow).hours == 1
    correct_hours(tomorrow)
    with enter_tenant(acme.pk):
        assert entries.total() == 200_000_000
    (listed,) = json.loads(manage("deployments", "--all", "--json").stdout)
    assert listed["billed_nano_dollars"] == 200_000_000 and listed["billed_hours"] == 1
    assert 0 < listed["estimated_nano_dollars"] < 200_000_000
    assert "billed $0.2000 for 1 hour," in manage("deployments", "--all").stdout


def test_a_workspace_that_is_shown_no_bill_is_told_once(pool: Pool, modal: ModalServer) -> None:
    build_deployment(pool)
    modal.inject("WorkspaceBillingReport", "PERMISSION_DENIED", "Upgrade to Team.", times=2)
    with capture_logs() as logs:
        import_bills()
        import_bills()
    (told,) = [entry for entry in logs if entry["event"] == "bill.not_read"]
    assert "comes with its Team plan: costs stay estimates. It says: Upgrade to Team." in told["problem"]
    assert BackendStanding.objects.get().bill_problem == told["problem"]
    assert "Upgrade to Team." in manage("deployments").stderr
    import_bills()
    assert BackendStanding.objects.get().bill_problem == ""


def test_each_workspace_has_a_bill_of_its_own(acme: Tenant, rival: Tenant, modal: ModalServer) -> None:
    save(acme, modal.own_tokens[0])
    ours, theirs = (build_deployment(build_pool(tenant, backend="modal", region="us-east")) for tenant in (acme, rival))
    since = hour_of(timezone.now())
    # In its own workspace acme claims that rival's deployment cost a fortune.
    modal.change(workspace=TENANTS, bill=[billed(ours, since, "1"), billed(theirs, since, "1000", object_id="ap-2")])
    # The operator's token may be of the same workspace: what is billed there to acme's deployment is counted once.
    modal.change(bill=[billed(theirs, since, "2", object_id="ap-3"), billed(ours, since, "1")])
    import_bills(since + 2 * HOUR)
    modal.inject("WorkspaceBillingReport", "UNAVAILABLE", "Come back later.", times=20)
    assert import_bills(since + 3 * HOUR).hours == 0
    modal.inject("WorkspaceBillingReport", times=0)
    with enter_operator("test", reason="to read what was billed"):
        hours = BilledHour.objects.values_list("tenant_id", "deployment_id", "billed_nano_dollars")
        assert set(hours) == {(acme.pk, ours.pk, 10**9), (rival.pk, theirs.pk, 2 * 10**9)}
    assert BackendStanding.objects.get().bill_problem == "", "what passes is nobody's trouble"


# --- prices ----------------------------------------------------------------------------------------------------------
def test_modals_prices_count_from_the_day_they_were_read(acme: Tenant, modal: ModalServer) -> None:
    pool = build_pool(acme, backend="modal", region="us-east", gpu="A100-80GB", cpu_millicores=2000, memory_mib=2048)
    before = build_deployment(pool).rate_nano_dollars_per_second
    modal.change(
        rates={
            "gpu_hour_cost_a100_80gb": "3.60000",
            "cpu_hour_cost": "0.03600",
            "mem_gib_hour_cost": "0.00720",
            "gpu_hour_cost_b300": "7.10000",
            "gpu_hour_cost_z9": "1.00000",
            "gpu_hour_cost_l4": "0",
        }
    )
    with capture_logs() as logs:
        assert read_prices() == 1
    (unknown,) = [entry for entry in logs if entry["event"] == "prices.unknown"]
    assert unknown["names"] == ("gpu_hour_cost_l4", "gpu_hour_cost_z9")
    assert PriceList.objects.get().rates == {"gpu": {"A100-80GB": 1_000_000}, "cpu_core": 10_000, "memory_gib": 2_000}
    with enter_tenant(acme.pk):
        assert Pool.objects.get().rate_nano_dollars_per_second == round((1_000_000 + 20_000 + 4_000) * 1.15)
        assert Deployment.objects.get().rate_nano_dollars_per_second == before

    assert read_prices() == 0, "once a day"
    modal.change(rates={"cpu_hour_cost": "0.07200"})
    tomorrow = timezone.now() + datetime.timedelta(days=1)
    modal.inject("WorkspaceBillingRates", "PERMISSION_DENIED", "Not for you.", times=1)
    assert read_prices(tomorrow) == 0, "the prices of before go on being used"
    assert read_prices(tomorrow) == 1
    assert [each.rates["cpu_core"] for each in PriceList.objects.order_by("since")] == [10_000, 20_000]


# --- tenants' own workspaces -----------------------------------------------------------------------------------------
def test_a_tenants_pools_move_to_its_own_workspace_and_back(
    acme: Tenant, alice: User, pool: Pool, modal: ModalServer
) -> None:
    old = stand(pool)
    assert where(modal) == {old.name: OPERATORS}
    account = save(acme, modal.own_tokens[0], alice)
    assert (account.name, account.last_four, account.saved_by) == (
        TENANTS,
        modal.own_tokens[0]["token_id"][-4:],
        alice.email,
    )
    modal.inject("ImageGetByTag", "NOT_FOUND", "Image 'x' not found.", times=1)
    apply(pool)
    assert state_of(old) == "ready", "what serves goes on while there is nothing in its place"
    with enter_tenant(acme.pk):
        assert "build_images" in Deployment.objects.exclude(pk=old.pk).get().problem
        try_again(pool=Pool.objects.get(), actor=alice)
    new = become_ready(pool)
    wait_until(lambda: apply(pool) or state_of(old) == "stopped", within_seconds=30, what="the old one's end")
    assert where(modal) == {new.name: TENANTS}
    reconcile()
    assert where(modal) == {new.name: TENANTS}, "nobody takes it for an orphan"

    with enter_tenant(acme.pk):
        leave_account(account=account, actor=alice)
    again = become_ready(pool)
    assert forget_left_accounts() == 0, "its credentials are needed to stop what stands there"
    wait_until(lambda: apply(pool) or state_of(new) == "stopped", within_seconds=30, what="the end of the other one")
    assert where(modal) == {again.name: OPERATORS}
    assert forget_left_accounts() == 0, "its last hours are not on the bill yet"
    assert stored(acme, account) == modal.own_tokens[0]
    assert forget_left_accounts(timezone.now() + datetime.timedelta(days=4)) == 1
    assert stored(acme, account) is None
    assert trail(acme) == ["account.saved", "account.left", "account.forgotten"]


def test_another_token_of_the_same_workspace_redeploys_nothing(acme: Tenant, pool: Pool, modal: ModalServer) -> None:
    account = save(acme, modal.own_tokens[0])
    deployment = stand(pool)
    published = len(modal.asked("AppPublish"))
    assert save(acme, modal.own_tokens[1]).pk == account.pk
    assert stored(acme, account) == modal.own_tokens[1]
    apply(pool)
    assert state_of(deployment) == "ready" and len(modal.asked("AppPublish")) == published
    assert trail(acme) == ["account.saved", "account.credentials_replaced"]


def test_credentials_are_encrypted_and_each_tenants_own(acme: Tenant, rival: Tenant, modal: ModalServer) -> None:
    account = save(acme, modal.own_tokens[0])
    with connections["owner"].cursor() as cursor:
        cursor.execute("SET warmline.definer = 'on'")
        for table in ("content_accountcredentials", "provisioning_account", "tenants_auditentry"):
            cursor.execute(f"SELECT row_to_json({table})::text FROM {table}")
            rows = str(cursor.fetchall())
            assert account.pk.hex in rows.replace("-", "") or table == "tenants_auditentry"
            assert modal.own_tokens[0]["token_secret"] not in rows and modal.own_tokens[0]["token_id"] not in rows
    assert async_to_sync(vault.in_use().read)(AccountRef(str(rival.pk), str(account.pk))) is None
    with enter_tenant(rival.pk):
        assert not Account.objects.exists()
        assert build_pool(rival, backend="modal", region="us-east").spec().account == ""


@pytest.mark.parametrize(
    ("credentials", "sentence"),
    [
        ({"token_id": "ak-nobodys", "token_secret": "as-nobodys"}, "Modal refuses the credentials: Token is invalid"),
        ({"token_id": "ak with spaces", "token_secret": "as-nobodys"}, "one word"),
        ({"token_id": "ak-nobodys"}, "one word"),
    ],
)
def test_what_modal_does_not_know_is_not_saved(
    acme: Tenant, modal: ModalServer, credentials: dict[str, str], sentence: str
) -> None:
    with pytest.raises(BadCredentials, match=sentence):
        save(acme, credentials)
    with enter_tenant(acme.pk):
        assert not Account.objects.exists()


def test_orphans_are_looked_for_in_each_workspace_and_labels_are_believed_in_none_but_our_own(
    acme: Tenant, rival: Tenant, modal: ModalServer
) -> None:
    import modal as sdk

    save(acme, modal.own_tokens[0])
    build_pool(acme, backend="modal", region="us-east")
    client = sdk.Client.from_credentials(*modal.own_tokens[0].values())
    tags = {"warmline": "development", "worker": "cascade", "region": "us-east"}
    for name, tenant in (("development-left", acme), ("development-forged", rival)):
        sdk.App(name, tags={**tags, "tenant": str(tenant.pk)}).deploy(client=client)
    sdk.App("development-half", tags={"warmline": "development"}).deploy(client=client)
    with capture_logs():
        reconcile()
    assert where(modal) == {"development-forged": TENANTS, "development-half": TENANTS}
    with enter_tenant(rival.pk):
        assert not AuditEntry.objects.filter(action="deployment.orphan_stopped").exists()


def test_what_stands_behind_a_revoked_token_is_given_up_after_the_longest_drain(
    acme: Tenant, pool: Pool, modal: ModalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = save(acme, revocable := modal.own_tokens[1])
    deployment = stand(pool)
    modal.change(revoke=revocable["token_id"])
    with enter_tenant(acme.pk):
        set_enabled(pool=Pool.objects.get(), actor=None, enabled=False)
    apply(pool)
    with enter_tenant(acme.pk):
        assert "refuses the credentials" in Deployment.objects.get(pk=deployment.pk).problem
    assert state_of(deployment) == "draining" and forget_left_accounts() == 0
    monkeypatch.setattr(applying, "LONGEST_DRAIN", datetime.timedelta(0))
    apply(pool)
    assert state_of(deployment) == "stopped"
    with enter_tenant(acme.pk):
        leave_account(account=account, actor=None)
    import_bills()
    assert forget_left_accounts() == 1, "no bill is shown to a token that was revoked"


async def test_a_backend_asks_for_credentials_again_after_a_while(
    modal: ModalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kept:
        def __init__(self) -> None:
            self.credentials: dict[str, str] = {"token_id": "one"}

        async def read(self, account: AccountRef) -> dict[str, str]:
            return self.credentials

    kept, account = Kept(), AccountRef("a-tenant", "an-account")
    reading = vault.ReadCredentials(kept)  # type: ignore[arg-type]
    assert (await reading.of(account))["token_id"] == "one"
    kept.credentials = {"token_id": "two"}
    assert (await reading.of(account))["token_id"] == "one"
    monkeypatch.setattr(vault, "KEPT_SECONDS", 0.0)
    assert (await reading.of(account))["token_id"] == "two"
