"""Live updates of calls for open pages, as JSON `{"event": "opened" | "turn" | "ended", "call": {…}}`.

Pages send nothing. Outsiders are refused as by pages: the answer does not tell whether the tenant exists.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import DatabaseError

from tenants.lookups import memberships_of
from tenants.models import User
from voice.live import FLEET_GROUP, group_of

log = structlog.get_logger(__name__)

NOT_FOUND = 4404
# A member who was removed sees nothing more after so long.
RECHECK_SECONDS = 60.0


class _Updates(AsyncWebsocketConsumer):
    """Joins the group that `find_group` names, and leaves when it names another or none."""

    group: str | None = None
    _rechecking: asyncio.Task[None] | None = None

    async def find_group(self) -> str | None:
        raise NotImplementedError

    async def current_user(self) -> User | None:
        """Return the signed-in user as the database has them now."""
        user_id = self.scope["user"].pk
        return None if user_id is None else await User.objects.filter(pk=user_id, is_active=True).afirst()

    async def connect(self) -> None:
        self.group = await self.find_group()
        await self.accept()
        if self.group is None:
            await self.close(code=NOT_FOUND)
            return
        await self.channel_layer.group_add(self.group, self.channel_name)
        self._rechecking = asyncio.create_task(self._recheck(), name="recheck membership")

    async def disconnect(self, code: int) -> None:
        if self._rechecking is not None:
            self._rechecking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._rechecking
        if self.group is not None:
            await self.channel_layer.group_discard(self.group, self.channel_name)

    async def calls_changed(self, message: dict[str, Any]) -> None:
        for document in message["documents"]:
            await self.send(text_data=json.dumps(document))

    async def _recheck(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                group = await self.find_group()
            except DatabaseError as problem:
                log.warning("database.away", problem=repr(problem))
                continue
            if group != self.group:
                await self.close(code=NOT_FOUND)
                return


class TenantUpdates(_Updates):
    """`/t/SLUG/live/`: the calls of one tenant, for its members."""

    async def find_group(self) -> str | None:
        user = await self.current_user()
        if user is None:
            return None
        slug = self.scope["url_route"]["kwargs"]["tenant_slug"]
        for belonging in await database_sync_to_async(memberships_of)(user.pk):
            if belonging.slug == slug:
                return group_of(belonging.tenant_id)
        return None


class FleetUpdates(_Updates):
    """`/fleet/live/`: the calls of all tenants, for operators."""

    async def find_group(self) -> str | None:
        user = await self.current_user()
        return FLEET_GROUP if user is not None and user.is_operator else None
