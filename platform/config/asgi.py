"""The web process: pages over HTTP, live updates of dashboards over WebSocket. Calls go through `config.gateway`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
http_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402  (Django must be set up first)
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import OriginValidator  # noqa: E402
from django.conf import settings  # noqa: E402

from config.checks import refuse_insecure_start  # noqa: E402
from voice.routing import websocket_urlpatterns  # noqa: E402

refuse_insecure_start()
application = ProtocolTypeRouter(
    {
        "http": http_application,
        "websocket": OriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns)), [settings.PUBLIC_URL]),
    }
)
