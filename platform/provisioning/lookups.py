"""What a tenant may see of the operator's shared pools: where they can be reached, and what they cost."""

from __future__ import annotations

from tenants.isolation import Lookup, register_lookup

PLACES = register_lookup(
    Lookup(
        "warmline_places",
        arguments="of_worker varchar",
        returns="""TABLE (pool_id uuid, deployment_id uuid, owner_id uuid, name varchar, backend varchar,
            worker varchar, region varchar, rate_nano_dollars_per_second bigint, is_own boolean, account text)""",
        # For the entered tenant alone: its own pools, and the shared ones of the operator's tenant.
        body="""SELECT deployment.pool_id, deployment.id, deployment.tenant_id, deployment.name, deployment.backend,
                    deployment.worker, deployment.region, deployment.rate_nano_dollars_per_second,
                    deployment.tenant_id = entered.id, coalesce(deployment.spec ->> 'account', '')
                FROM provisioning_deployment deployment
                JOIN provisioning_pool pool ON pool.id = deployment.pool_id
                JOIN tenants_tenant owner ON owner.id = deployment.tenant_id
                CROSS JOIN (SELECT NULLIF(current_setting('warmline.tenant_id', true), '')::uuid AS id) entered
                WHERE deployment.state = 'ready' AND deployment.worker = of_worker AND pool.is_enabled
                    AND (deployment.tenant_id = entered.id
                        OR (entered.id IS NOT NULL AND pool.is_shared AND owner.is_house))
                ORDER BY deployment.ready_at DESC""",
    )
)
