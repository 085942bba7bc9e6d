"""System checks of the settings: what a server of ours does not start with, and `manage.py check --deploy` tells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import InvalidStorageError, storages
from django.db import DatabaseError, connections

from content.crypto import master_key

SHORTEST_KEY = 40
SHORTEST_TOKEN = 24
EXAMPLES = "change-me"
"""How examples of secrets begin that earlier copies of `.env.example` had: everybody knows them."""
RANDOM_HINT = "`openssl rand -base64 48` makes a good one."


def secrets_are_set(app_configs: Any, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Hold in every environment: with a known secret, anybody signs in as anybody."""
    if settings.SECRET_KEY.startswith(("insecure-", EXAMPLES)) or len(settings.SECRET_KEY) < SHORTEST_KEY:
        yield checks.Error(
            f"WARMLINE_SECRET_KEY must be set, to at least {SHORTEST_KEY} random characters.",
            hint=RANDOM_HINT,
            id="config.E001",
        )
    try:
        if master_key(settings.CONTENT_KEY).startswith(EXAMPLES.encode()):
            raise ValueError("the example's value is known to everybody.")
    except ValueError as problem:
        yield checks.Error(
            f"WARMLINE_CONTENT_KEY must be 32 random bytes in base64: {problem}",
            hint="`openssl rand -base64 32` makes one. Keep a copy: what was said cannot be read without it.",
            id="config.E002",
        )


def production_is_secure(app_configs: Any, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    if not settings.PRODUCTION:
        return
    if settings.DEBUG:
        yield checks.Error(
            "DEBUG is on: errors would show settings to visitors.", hint="Unset DEBUG.", id="config.E003"
        )
    for name, wanted in (("PUBLIC_URL", "https"), ("GATEWAY_URL", "wss")):
        if urlsplit(getattr(settings, name)).scheme != wanted:
            yield checks.Error(
                f"{name} must begin with {wanted}://: browsers give the microphone to secure pages alone.",
                hint="Put a reverse proxy with a certificate in front, and set BEHIND_PROXY=true.",
                id="config.E004",
            )
    if not settings.ALLOWED_HOSTS or any("*" in host for host in settings.ALLOWED_HOSTS):
        yield checks.Error(
            "ALLOWED_HOSTS must name this installation's hosts.",
            hint="Its default is PUBLIC_URL's host.",
            id="config.E005",
        )
    if len(settings.METRICS_TOKEN) < SHORTEST_TOKEN:
        yield checks.Error(
            f"METRICS_TOKEN must be set, to at least {SHORTEST_TOKEN} characters: /metrics tells of every tenant.",
            hint=RANDOM_HINT,
            id="config.E006",
        )
    token = settings.LOCAL_SUPERVISOR_TOKEN
    if token and (len(token) < SHORTEST_TOKEN or token.startswith(EXAMPLES)):
        yield checks.Error(
            f"LOCAL_SUPERVISOR_TOKEN must have at least {SHORTEST_TOKEN} random characters.",
            hint=RANDOM_HINT,
            id="config.E007",
        )
    users = {alias: connections[alias].settings_dict["USER"] for alias in ("default", "operator", "owner")}
    if len(set(users.values())) < len(users):
        yield checks.Error(
            "DATABASE_URL, DATABASE_OPERATOR_URL and DATABASE_OWNER_URL must use three different roles: "
            "one role for two of them would see what it must not.",
            hint="docs/operations.md says how the roles are made.",
            id="config.E008",
        )


def production_can_send_mail(app_configs: Any, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    if settings.PRODUCTION and not settings.EMAIL_HOST:
        yield checks.Warning(
            "EMAIL_HOST is not set: invitations and password resets go to files that nobody reads.",
            hint="Set EMAIL_HOST, EMAIL_HOST_USER and EMAIL_HOST_PASSWORD.",
            id="config.W001",
        )


def modal_credentials_are_whole(app_configs: Any, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Look at the settings alone: what Modal says of them, and what it lacks, `manage.py doctor` asks."""
    if bool(settings.MODAL_TOKEN_ID) != bool(settings.MODAL_TOKEN_SECRET):
        missing = "MODAL_TOKEN_SECRET" if settings.MODAL_TOKEN_ID else "MODAL_TOKEN_ID"
        yield checks.Error(
            f"{missing} is not set: a token of Modal's has two parts.",
            hint="`modal token new` makes one, or the workspace's settings on modal.com. Set both parts, or neither.",
            id="config.E010",
        )


def recordings_have_a_storage(app_configs: Any, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    """See whether the class is there and takes its options. Whether it can be reached, the first recording tells."""
    try:
        storages.create_storage(settings.STORAGES["recordings"])
    except (InvalidStorageError, ImproperlyConfigured, TypeError, ValueError, OSError) as problem:
        yield checks.Error(
            f"Recordings cannot be kept: {problem}",
            hint="RECORDINGS_STORAGE names a class, RECORDINGS_STORAGE_OPTIONS its options: docs/operations.md.",
            id="config.E011",
        )


def database_roles_are_confined(
    app_configs: Any, databases: Iterable[str] | None = None, **kwargs: Any
) -> Iterator[checks.CheckMessage]:
    """Ask the database whether row-level security binds the roles that it is there for. Runs with --database."""
    for alias in databases or ():
        if alias in ("default", "operator"):
            yield from role_problems(alias)


def role_problems(alias: str) -> Iterator[checks.CheckMessage]:
    """Yield what is wrong with the role of a connection.

    Raises:
        DatabaseError: it cannot be asked.
    """
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT rolname, rolsuper, rolbypassrls, "
            "(SELECT count(*) FROM pg_class WHERE relowner = pg_roles.oid AND relkind IN ('r', 'p')) "
            "FROM pg_roles WHERE rolname = current_user"
        )
        name, is_superuser, bypasses, owned = cursor.fetchone()
    wrong = [
        *(["is a superuser"] if is_superuser else []),
        *(["bypasses row-level security"] if bypasses else []),
        *([f"owns {owned} tables"] if owned else []),
    ]
    if wrong:
        yield checks.Error(
            f"The role {name} of the connection {alias!r} {' and '.join(wrong)}: tenants would not be kept apart.",
            hint="Make a role that owns nothing: docs/operations.md says how.",
            id="config.E009",
        )


def refuse_insecure_start() -> None:
    """Called by each server before it serves.

    Raises:
        ImproperlyConfigured: the settings are not fit for it. The message lists all that is wrong.
    """
    found = [*secrets_are_set(None), *production_is_secure(None)]
    if settings.PRODUCTION:
        for alias in ("default", "operator"):
            try:
                found += role_problems(alias)
            except DatabaseError:
                # A server that is up before its database says so in /healthz; nothing leaks meanwhile.
                continue
            finally:
                connections[alias].close()
    if found:
        listed = "\n".join(f"- {each.msg} {each.hint} ({each.id})" for each in found)
        raise ImproperlyConfigured(f"Warmline does not start like this:\n{listed}")


def register() -> None:
    # Commands such as makemigrations need no secret: what a server refuses, they only see with --deploy.
    for check in (secrets_are_set, production_is_secure, production_can_send_mail):
        checks.register(_as_list(check), checks.Tags.security, deploy=True)
    checks.register(_as_list(modal_credentials_are_whole))
    checks.register(_as_list(recordings_have_a_storage))
    checks.register(_as_list(database_roles_are_confined), checks.Tags.database)


def _as_list(check: Any) -> Any:
    def run(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
        return list(check(app_configs, **kwargs))

    return run
