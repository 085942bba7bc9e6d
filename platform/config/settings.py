"""Settings, all from environment variables (`.env.example` lists them); the defaults let commands run in a clone."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from config import env
from config.logs import logging_settings

env.adopt_running_demo()
ROOT = env.ROOT
STATE_DIR = Path(env.text("WARMLINE_STATE_DIR", str(ROOT / ".warmline"))).resolve()

# --- what this installation is -------------------------------------------------------------------------------------
ENVIRONMENT = env.one_of("WARMLINE_ENVIRONMENT", "development", ("development", "demo", "production"))
PRODUCTION = ENVIRONMENT == "production"
DEBUG = env.boolean("DEBUG", default=False)
PUBLIC_URL = env.text("PUBLIC_URL", "http://localhost:8000").rstrip("/")
GATEWAY_URL = env.text("GATEWAY_URL", "ws://localhost:8001").rstrip("/")
INTERNAL_URL = env.text("INTERNAL_URL", PUBLIC_URL).rstrip("/")
ALLOWED_HOSTS = sorted(set(env.words("ALLOWED_HOSTS", f"{urlsplit(PUBLIC_URL).hostname},localhost,127.0.0.1")))
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

# The fallbacks serve commands that need no secret (makemigrations, check); servers refuse them (config.checks).
SECRET_KEY = env.secret("WARMLINE_SECRET_KEY") or "insecure-no-secret-key-was-set"
CONTENT_KEY = env.secret("WARMLINE_CONTENT_KEY") or ""

# --- applications --------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "channels",
    "csp",
    "django_htmx",
    "template_partials",
    "tenants",
    "billing",
    "agents",
    "provisioning",
    "content",
    "voice",
    "web",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "tenants.middleware.ScopeMiddleware",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "web.context.navigation",
            ],
        },
    }
]

# --- data ----------------------------------------------------------------------------------------------------------
# Three roles, one database: the application owns nothing, migrations run as the owner, and what crosses tenants by
# right uses the operator's role on an alias of its own (tenants.scope).
_NO_DATABASE = "postgresql://warmline_app@127.0.0.1:5432/warmline"
DATABASE_URL = env.secret("DATABASE_URL") or _NO_DATABASE
DATABASE_OWNER_URL = env.secret("DATABASE_OWNER_URL") or DATABASE_URL
DATABASE_OPERATOR_URL = env.secret("DATABASE_OPERATOR_URL") or DATABASE_URL
DATABASES = {
    "default": {**env.database("DATABASE_URL", DATABASE_URL), "CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True},
    "operator": {
        **env.database("DATABASE_OPERATOR_URL", DATABASE_OPERATOR_URL),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    },
    "owner": env.database("DATABASE_OWNER_URL", DATABASE_OWNER_URL),
}
DATABASE_ROUTERS = ["content.routers.ContentRouter", "tenants.routers.ScopeRouter"]
CONTENT_ALIAS = ""  # a database of their own for regulated tenants comes here
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.secret("REDIS_URL") or "redis://127.0.0.1:6379/0"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}
CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
}

# --- people --------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "tenants.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "web:dashboard"
LOGOUT_REDIRECT_URL = "web:home"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_SIGNUP_FORM_CLASS = "web.forms.SignUpForm"
ACCOUNT_EMAIL_VERIFICATION = env.one_of("EMAIL_VERIFICATION", "optional", ("mandatory", "optional", "none"))
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
# django-allauth throttles sign-up, login and reset per address and account through the cache.
ACCOUNT_RATE_LIMITS = {"login_failed": "10/m/ip,5/5m/key"}

# --- mail ----------------------------------------------------------------------------------------------------------
EMAIL_HOST = env.text("EMAIL_HOST", "")
EMAIL_PORT = env.integer("EMAIL_PORT", 587)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = env.secret("EMAIL_HOST_PASSWORD") or ""
EMAIL_USE_TLS = env.boolean("EMAIL_USE_TLS", default=True)
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "Warmline <no-reply@localhost>")
# Without a mail server, mail is written to files, where the operator of a demo can read it.
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'filebased'}.EmailBackend"
EMAIL_FILE_PATH = STATE_DIR / "mail"

# --- billing -------------------------------------------------------------------------------------------------------
# Without a key the platform runs and bills nobody (docs/billing.md).
STRIPE_SECRET_KEY = env.secret("STRIPE_SECRET_KEY") or ""
STRIPE_WEBHOOK_SECRET = env.secret("STRIPE_WEBHOOK_SECRET") or ""
STRIPE_API_URL = env.text("STRIPE_API_URL", "https://api.stripe.com").rstrip("/")
STRIPE_PAGES = env.words("STRIPE_PAGES", "https://checkout.stripe.com,https://billing.stripe.com")
STRIPE_AUTOMATIC_TAX = env.boolean("STRIPE_AUTOMATIC_TAX", default=False)
BILLING_GRACE_DAYS = env.integer("BILLING_GRACE_DAYS", 7)

# --- background work -----------------------------------------------------------------------------------------------
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_TIME_LIMIT = 600
CELERY_TASK_SOFT_TIME_LIMIT = 570
CELERY_WORKER_MAX_TASKS_PER_CHILD = 500
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 900}

# --- voice ---------------------------------------------------------------------------------------------------------
LOCAL_SUPERVISOR_URL = env.text("LOCAL_SUPERVISOR_URL", "http://127.0.0.1:8002").rstrip("/")
LOCAL_SUPERVISOR_TOKEN = env.secret("LOCAL_SUPERVISOR_TOKEN") or ""
MODAL_TOKEN_ID = env.text("MODAL_TOKEN_ID", "")
MODAL_TOKEN_SECRET = env.secret("MODAL_TOKEN_SECRET") or ""
MODAL_ENVIRONMENT = env.text("MODAL_ENVIRONMENT", "")
# The model hub that `fetch_weights` downloads from; its token for weights that are given to some alone.
HF_TOKEN = env.secret("HF_TOKEN") or ""
HF_ENDPOINT = env.text("HF_ENDPOINT", "")
REGION = env.text("WARMLINE_REGION", "local")
EDGE_REGION_HEADER = env.text("EDGE_REGION_HEADER", "")
# Managed services. Only the operator says where they are: tenants' keys go there.
ELEVENLABS_URL = env.text("WORKER_ELEVENLABS_URL", "https://api.elevenlabs.io").rstrip("/")
CARTESIA_URL = env.text("WORKER_CARTESIA_URL", "https://api.cartesia.ai").rstrip("/")
DEEPGRAM_URL = env.text("WORKER_DEEPGRAM_URL", "https://api.deepgram.com").rstrip("/")
OPENAI_REALTIME_URL = env.text("WORKER_OPENAI_REALTIME_URL", "wss://api.openai.com/v1/realtime").rstrip("/")
# Telephones: where carriers open their streams, where they ask what to do with a call, and where the gateway is.
TELEPHONY_URL = env.text("TELEPHONY_URL", "ws://localhost:8003").rstrip("/")
TELEPHONY_WEBHOOK_URL = env.text("TELEPHONY_WEBHOOK_URL", PUBLIC_URL).rstrip("/")
ALLOWED_HOSTS = sorted({*ALLOWED_HOSTS, urlsplit(TELEPHONY_WEBHOOK_URL).hostname or ""} - {""})
TELEPHONY_GATEWAY_URL = env.text("TELEPHONY_GATEWAY_URL", GATEWAY_URL).rstrip("/")
SIP_NUMBERS_NEED_CONFIRMATION = env.boolean("SIP_NUMBERS_NEED_CONFIRMATION", default=ENVIRONMENT != "demo")
TWILIO_URL = env.text("TWILIO_URL", "https://api.twilio.com").rstrip("/")
SIGNALWIRE_URL = env.text("SIGNALWIRE_URL", "https://{space}.signalwire.com").rstrip("/")
TELNYX_URL = env.text("TELNYX_URL", "https://api.telnyx.com/v2").rstrip("/")
PLIVO_URL = env.text("PLIVO_URL", "https://api.plivo.com/v1").rstrip("/")
# Through which trunk agents call, and what SIP's minutes cost: the trunk's bill goes to who runs the installation.
SIP_TRUNK = env.text("SIP_TRUNK", "")
SIP_NANO_DOLLARS_PER_MINUTE = env.integer("SIP_NANO_DOLLARS_PER_MINUTE", 0)
SIP_OUTBOUND_NANO_DOLLARS_PER_MINUTE = env.integer("SIP_OUTBOUND_NANO_DOLLARS_PER_MINUTE", 0)
# Read by workers; here so that checks and pages can say whether a language model is set.
LLM_BASE_URL = env.text("LLM_BASE_URL", "")
LLM_API_KEY = env.secret("LLM_API_KEY") or ""
LLM_MODEL = env.text("LLM_MODEL", "")
# The demo of the home page: how many visitors talk at a time, and how often one address may call.
DEMO_LINES = env.integer("WARMLINE_DEMO_LINES", 4)
DEMO_CALLS_PER_HOUR = env.integer("WARMLINE_DEMO_CALLS_PER_HOUR", 20)

# --- pages ---------------------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
STATIC_URL = "/static/"
STATIC_ROOT = STATE_DIR / "static"
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": STATE_DIR / "files"}},
    # What was heard in calls, encrypted. Any storage that can list a folder will do; content.object_store is one.
    "recordings": {
        "BACKEND": env.text("RECORDINGS_STORAGE", "django.core.files.storage.FileSystemStorage"),
        "OPTIONS": env.document("RECORDINGS_STORAGE_OPTIONS")
        or {
            "location": str(STATE_DIR / "recordings"),
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
    },
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not PRODUCTION
UNFOLD = {"SITE_TITLE": "Warmline", "SITE_HEADER": "Warmline operator", "SHOW_HISTORY": True}

# --- security ------------------------------------------------------------------------------------------------------
_gateway_origin = "{0.scheme}://{0.netloc}".format(urlsplit(GATEWAY_URL))
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'", "'wasm-unsafe-eval'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "media-src": ["'self'", "blob:"],
        "worker-src": ["'self'", "blob:"],
        "connect-src": ["'self'", _gateway_origin, PUBLIC_URL.replace("http", "ws", 1)],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        # A button of ours that leads to Stripe: browsers hold the pages after it to this, too.
        "form-action": ["'self'", *(STRIPE_PAGES if STRIPE_SECRET_KEY else [])],
    },
    # Alpine, which the operator's admin is built on, evaluates expressions: its policy is in tenants.middleware.
    "EXCLUDE_URL_PREFIXES": ("/admin/",),
}
_https = PUBLIC_URL.startswith("https://")
SECURE_SSL_REDIRECT = env.boolean("SECURE_SSL_REDIRECT", default=True) and _https
BEHIND_PROXY = env.boolean("BEHIND_PROXY", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
SECURE_HSTS_SECONDS = 31_536_000 if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _https
SECURE_HSTS_PRELOAD = _https
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
METRICS_TOKEN = env.secret("METRICS_TOKEN") or ""

LOGGING_CONFIG = "config.logs.configure"
LOG_FORMAT = env.one_of("LOG_FORMAT", "json" if PRODUCTION else "console", ("json", "console"))
LOGGING = logging_settings(LOG_FORMAT, level=env.text("LOG_LEVEL", "INFO"))
