"""What the gateway asks before it knows the tenant: narrow functions in the database (tenants.isolation)."""

from __future__ import annotations

from tenants.isolation import Lookup, register_lookup

REDEEM_TICKET = register_lookup(
    Lookup(
        "warmline_redeem_ticket",
        arguments="with_hash varchar",
        returns="TABLE (tenant_id uuid, ticket_id uuid, channel varchar, origin varchar, max_seconds integer, "
        "puts_through boolean)",
        body="""UPDATE voice_ticket SET used_at = clock_timestamp()
                WHERE token_hash = with_hash AND used_at IS NULL AND expires_at > clock_timestamp()
                RETURNING tenant_id, id, channel, origin, max_seconds, puts_through""",
    )
)
RESUME_CALL = register_lookup(
    Lookup(
        "warmline_resume_call",
        arguments="with_hash varchar, new_hash varchar",
        returns="TABLE (tenant_id uuid, call_id uuid, epoch integer)",
        # The token that was used last is good until the caller was heard over the connection that it opened: that one
        # may have been lost before the new token arrived.
        body="""UPDATE voice_call SET resume_token_hash = new_hash, spent_token_hash = with_hash
                WHERE (resume_token_hash = with_hash OR spent_token_hash = with_hash) AND with_hash <> ''
                    AND status <> 'ended'
                RETURNING tenant_id, id, epoch""",
    )
)
OTHER_SESSIONS = register_lookup(
    Lookup(
        "warmline_other_sessions",
        arguments="of_session uuid",
        returns="TABLE (begin_ms bigint, end_ms bigint)",
        # A shared container serves several tenants. Of the others one learns when they were there, for one's own
        # sessions.
        body="""SELECT (1000 * extract(epoch FROM other.granted_at - session.granted_at))::bigint,
                    (1000 * extract(
                        epoch FROM coalesce(other.ended_at, clock_timestamp()) - session.granted_at
                    ))::bigint
                FROM voice_session session
                JOIN voice_session other ON other.deployment_id = session.deployment_id
                    AND other.container = session.container AND other.id <> session.id
                    AND other.granted_at < coalesce(session.ended_at, clock_timestamp())
                    AND coalesce(other.ended_at, 'infinity') > session.granted_at
                WHERE session.id = of_session AND session.container <> ''
                    AND (session.tenant_id = NULLIF(current_setting('warmline.tenant_id', true), '')::uuid)""",
    )
)
LINES_TAKEN = register_lookup(
    Lookup(
        "warmline_lines_taken",
        arguments="",
        returns="bigint",
        body="SELECT count(*) FROM voice_calllease WHERE expires_at > clock_timestamp()",
    )
)
TENANT_OF_PUBLIC_KEY = register_lookup(
    Lookup(
        "warmline_tenant_of_public_key",
        arguments="key varchar",
        returns="uuid",
        body="SELECT tenant_id FROM agents_agent WHERE public_key = key AND archived_at IS NULL",
    )
)
TENANT_OF_TELEPHONE_NUMBER = register_lookup(
    Lookup(
        "warmline_tenant_of_telephone_number",
        arguments="of_number varchar",
        returns="uuid",
        body="SELECT tenant_id FROM voice_telephonenumber "
        "WHERE number = of_number AND is_active AND standing = 'confirmed'",
    )
)
