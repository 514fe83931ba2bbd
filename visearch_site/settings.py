"""Settings, in sections. Every value that differs between machines comes from the environment (docs/operating.md).

`make up` starts its own servers and leaves their addresses in VAR/local/env, which is read here; the real environment
always wins.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from visearch_site import admin_look
from visearch_site.models_file import read_models_file

env = environ.Env()

# --- Places -----------------------------------------------------------------------------------------------------------

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env.str("VISEARCH_VAR", default=str(BASE_DIR / "var"))).resolve()
LOCAL_ENV_FILE = VAR_DIR / "local" / "env"
if LOCAL_ENV_FILE.is_file():
    env.read_env(str(LOCAL_ENV_FILE))


def required(name: str) -> str:
    """The value of an environment variable that has no safe default. Raises ImproperlyConfigured saying what to do."""
    value: str = env.str(name, default="")
    if not value:
        raise ImproperlyConfigured(
            f"{name} is not set. Run `make up`, which starts servers of its own and sets it, "
            f"or set it in the environment (docs/operating.md)."
        )
    return value


# --- Security ---------------------------------------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = required("SECRET_KEY")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# HTTPS is assumed; `make up` serves plain HTTP on this machine and says VISEARCH_HTTPS=0 in its env file.
HTTPS = env.bool("VISEARCH_HTTPS", default=True)
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]  # probes of the host itself ask over plain HTTP
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "visearch_site.error_pages.csrf_failure"
if env.bool("VISEARCH_BEHIND_PROXY", default=False):  # only where a proxy of ours sets (and strips) the header
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

LOGIN_REDIRECT_URL = "admin:index"  # of who logs in without having asked for a page

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "style-src": ["'self'", "'unsafe-inline'"],  # Swagger UI sets style attributes; scripts stay 'self'
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
    }
}

# --- Applications -----------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",  # before the admin: its templates and its site take the place of Django's
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "csp",
    "rest_framework",
    "knox",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "taggit",
    "django_celery_beat",
    "catalog",
    "search",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "visearch_site.errors.PageErrors",
    "visearch_site.admin_look.admin_policy",
]

ROOT_URLCONF = "visearch_site.urls"
WSGI_APPLICATION = "visearch_site.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "search.context.upload_limit",
                "search.context.here",
            ],
        },
    },
]

UNFOLD = admin_look.UNFOLD  # the admin's look and navigation

# --- Postgres and Redis -----------------------------------------------------------------------------------------------

required("DATABASE_URL")
DATABASES = {
    "default": {
        **env.db_url("DATABASE_URL"),
        "CONN_MAX_AGE": env.int("DATABASE_CONN_MAX_AGE", default=60),
        "CONN_HEALTH_CHECKS": True,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = required("REDIS_URL")  # redis://host:port/0, rediss://... or unix:///path/to/socket?db=0
CACHES: dict[str, Any] = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "visearch",
        "VERSION": 2,  # of what is kept: before, it was pickled
        "OPTIONS": {
            "SOCKET_CONNECT_TIMEOUT": 2,
            "SOCKET_TIMEOUT": 2,
            # Never pickle: whoever could write to Redis could run what they like here.
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
            # A cache that is away is a cache miss: throttles let pass, pages are made anew. /readyz tells.
            "IGNORE_EXCEPTIONS": True,
        },
    }
}
DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS = True

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- Words and times --------------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

# --- Files ------------------------------------------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
MEDIA_DIR = Path(env.str("VISEARCH_MEDIA", default=str(VAR_DIR / "media"))).resolve()
STORAGES: dict[str, Any] = {
    "originals": {
        "BACKEND": env.str("VISEARCH_ORIGINALS_STORAGE", default="catalog.storage.AtomicFileSystemStorage"),
        "OPTIONS": env.json(
            "VISEARCH_ORIGINALS_OPTIONS", default={"location": str(MEDIA_DIR / "originals"), "flush_folder": True}
        ),
    },
    "renditions": {
        "BACKEND": env.str("VISEARCH_RENDITIONS_STORAGE", default="catalog.storage.AtomicFileSystemStorage"),
        "OPTIONS": env.json("VISEARCH_RENDITIONS_OPTIONS", default={"location": str(MEDIA_DIR / "renditions")}),
    },
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(MEDIA_DIR)}},
    "staticfiles": {"BACKEND": "visearch_site.static_files.StaticFiles"},
}
# Uploads stay in memory: a shopper's photo is never written anywhere, and 50 MB is the most a file may have.
FILE_UPLOAD_HANDLERS = ["visearch_site.upload_handlers.LimitedMemoryUploadHandler"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024  # form fields and JSON bodies, files not counted
# Far above what a form takes (100, catalog.admin.uploading), so that it can say so in a sentence beside the form.
DATA_UPLOAD_MAX_NUMBER_FILES = 2_000

# --- Limits of what an image may be -----------------------------------------------------------------------------------

VISEARCH_LIMITS = {
    "bytes": env.int("VISEARCH_MAX_BYTES", default=50 * 1024 * 1024),
    "pixels": env.int("VISEARCH_MAX_PIXELS", default=64_000_000),
    "frames": env.int("VISEARCH_MAX_FRAMES", default=1_000),
}

# --- Fetching images from addresses that people give ------------------------------------------------------------------

VISEARCH_VERSION = "0.1.0"  # of pyproject.toml; the User-Agent says it
VISEARCH_FETCH_ALLOW = env.list("VISEARCH_FETCH_ALLOW", default=[])  # host:port=network, besides the public internet
VISEARCH_FETCH_SECONDS = env.float("VISEARCH_FETCH_SECONDS", default=30.0)  # for one image, redirects included
VISEARCH_FETCH_CONTACT = env.str("VISEARCH_FETCH_CONTACT", default="")  # in the User-Agent: whom a server may ask
VISEARCH_FETCH_PER_HOST = env.int("VISEARCH_FETCH_PER_HOST", default=2)
VISEARCH_FETCH_AT_ONCE = env.int("VISEARCH_FETCH_AT_ONCE", default=4)

# --- Vision: what can run. Which model serves is a row (catalog.EmbeddingModel) -------------------------

VISEARCH_MODELS_DIR = Path(env.str("VISEARCH_MODELS", default=str(VAR_DIR / "models"))).resolve()
VISEARCH_THREADS = env.int("VISEARCH_THREADS", default=0)  # cores a process may use for networks; 0: all of them
VISEARCH_ONNX_PROVIDERS = env.list("VISEARCH_ONNX_PROVIDERS", default=["CPU"])  # best first: CPU, CUDA, OpenVINO
VISEARCH_DETECTORS: dict[str, dict[str, Any]] = {
    # A little stricter than the package (0.6, 0.7, 0.8): what that keeps out, and loses, says docs/models.md.
    "mtcnn": {
        "BACKEND": "catalog.vision.detectors.mtcnn.Mtcnn",
        "OPTIONS": {"min_face_px": 20, "thresholds": (0.75, 0.75, 0.9)},
    },
    "frame": {"BACKEND": "catalog.vision.detectors.frame.Frame", "OPTIONS": {}},
    # The article's own package, in a process of its own (requirements/tensorflow.txt).
    "mtcnn-tensorflow": {
        "BACKEND": "catalog.vision.detectors.mtcnn_tensorflow.MtcnnTensorflow",
        "OPTIONS": {"min_face_px": 20},
    },
}
VISEARCH_EMBEDDERS: dict[str, dict[str, Any]] = {
    "dlib-resnet": {"BACKEND": "catalog.vision.embedders.dlib_resnet.DlibResnet", "OPTIONS": {}},
    "efficientnet-lite0": {
        "BACKEND": "catalog.vision.embedders.efficientnet_lite0.EfficientNetLite0",
        "OPTIONS": {},
    },
    "digit-cnn": {"BACKEND": "catalog.vision.embedders.digit_cnn.DigitCnn", "OPTIONS": {}},
    # Weights to be fetched first: `manage.py models fetch NAME`, see docs/models.md.
    "vggface2-resnet50": {"BACKEND": "catalog.vision.embedders.vggface.VggFace2ResNet50", "OPTIONS": {}},
    "vggface2-senet50": {"BACKEND": "catalog.vision.embedders.vggface.VggFace2SeNet50", "OPTIONS": {}},
    "vggface-vgg16": {"BACKEND": "catalog.vision.embedders.vggface.VggFaceVgg16", "OPTIONS": {}},
    # The same weights in the article's own package, in a process of its own (requirements/tensorflow.txt).
    "keras-vggface-resnet50": {
        "BACKEND": "catalog.vision.embedders.keras_vggface.KerasVggfaceResNet50",
        "OPTIONS": {},
    },
    "keras-vggface-senet50": {"BACKEND": "catalog.vision.embedders.keras_vggface.KerasVggfaceSeNet50", "OPTIONS": {}},
    "keras-vggface-vgg16": {"BACKEND": "catalog.vision.embedders.keras_vggface.KerasVggfaceVgg16", "OPTIONS": {}},
}
VISEARCH_PIPELINES: dict[str, dict[str, Any]] = {
    "face": {
        "DETECTOR": env.str("VISEARCH_FACE_DETECTOR", default="mtcnn"),
        "EMBEDDERS": env.list("VISEARCH_FACE_EMBEDDERS", default=["dlib-resnet"]),
    },
    "image": {"DETECTOR": "frame", "EMBEDDERS": ["efficientnet-lite0"]},
    "digit": {"DETECTOR": "frame", "EMBEDDERS": ["digit-cnn"]},
}

# --- Index: one engine and metric for each pipeline -------------------------------------------------------------------

VISEARCH_INDEXES_DIR = Path(env.str("VISEARCH_INDEXES_DIR", default=str(VAR_DIR / "indexes"))).resolve()
VISEARCH_ENGINES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "search.engines.nmslib_hnsw.NmslibHnsw", "OPTIONS": {"m": 16, "ef_construction": 200}},
    "exact": {"BACKEND": "search.engines.exact.Exact", "OPTIONS": {}},
}
if env.str("VISEARCH_MILVUS_URI", default=""):  # what is in CONNECTION is neither recorded nor logged
    VISEARCH_ENGINES["milvus"] = {
        "BACKEND": "search.engines.milvus.Milvus",
        "OPTIONS": {},
        "CONNECTION": {
            "uri": env.str("VISEARCH_MILVUS_URI"),
            "token": env.str("VISEARCH_MILVUS_TOKEN", default=""),
            "database": env.str("VISEARCH_MILVUS_DATABASE", default=""),
            "prefix": env.str("VISEARCH_MILVUS_PREFIX", default="visearch"),
        },
    }
_optional_engines: dict[str, dict[str, Any]] = {  # named only where asked for: their libraries may not be installed
    "faiss": {"BACKEND": "search.engines.faiss_hnsw.FaissHnsw", "OPTIONS": {}},
    "faiss-fp16": {"BACKEND": "search.engines.faiss_hnsw.FaissHnsw", "OPTIONS": {"storage": "fp16"}},
    "annoy": {"BACKEND": "search.engines.annoy_trees.AnnoyTrees", "OPTIONS": {}},
}
_engine = env.str("VISEARCH_ENGINE", default="default")  # an entry of VISEARCH_ENGINES
if _engine in _optional_engines:
    VISEARCH_ENGINES[_engine] = _optional_engines[_engine]
if _engine in VISEARCH_ENGINES:
    VISEARCH_ENGINES[_engine]["OPTIONS"] |= env.json("VISEARCH_ENGINE_OPTIONS", default={})
VISEARCH_INDEXES: dict[str, dict[str, str]] = {
    "face": {"ENGINE": _engine, "METRIC": env.str("VISEARCH_FACE_METRIC", default="l2")},
    "image": {"ENGINE": _engine, "METRIC": "cosine"},
    "digit": {"ENGINE": _engine, "METRIC": "cosine"},
}
# Models that operators bring, in a file of their own: entries that join those above, or take their place.
_brought = read_models_file(env.str("VISEARCH_MODELS_FILE", default=""))
VISEARCH_DETECTORS |= _brought["detectors"]
VISEARCH_EMBEDDERS |= _brought["embedders"]
VISEARCH_PIPELINES |= _brought["pipelines"]
VISEARCH_INDEXES |= _brought["indexes"]

# Where hosts without a disk in common hand generations on to each other; "" where they share VISEARCH_INDEXES_DIR.
if env.str("VISEARCH_INDEXES_STORAGE", default=""):
    STORAGES["indexes"] = {
        "BACKEND": env.str("VISEARCH_INDEXES_STORAGE"),
        "OPTIONS": env.json("VISEARCH_INDEXES_OPTIONS", default={}),
    }

VISEARCH_REBUILD_SHARE = env.float("VISEARCH_REBUILD_SHARE", default=0.05)  # new or dropped share that makes it due
VISEARCH_REBUILD_ROWS = env.int("VISEARCH_REBUILD_ROWS", default=200)  # ... but never for fewer rows than this

# --- Work -------------------------------------------------------------------------------------------------------------

CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)
CELERY_RESULT_BACKEND = CELERY_BROKER_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_DEFAULT_QUEUE = "vision"
CELERY_TASK_ROUTES = {
    "catalog.intake.tasks.*": {"queue": "intake"},  # waits for slow servers, so it never keeps images from "vision"
    "catalog.tasks.sweep": {"queue": "sweep"},  # every worker takes it: behind images it would wait, and expire
    "search.tasks.fill": {"queue": "vision"},  # it needs the networks; an exact name goes before a pattern
    "search.tasks.*": {"queue": "index"},
}
CELERY_TASK_PUBLISH_RETRY = False  # a nudge that cannot be sent is made up for by the sweep
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 5, "socket_connect_timeout": 2, "visibility_timeout": 3600}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_PROC_ALIVE_TIMEOUT = 120  # a process is up when its networks are loaded
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SCHEDULE: dict[str, Any] = {
    "sweep": {
        "task": "catalog.tasks.sweep",
        "schedule": env.float("VISEARCH_SWEEP_SECONDS", default=60.0),
        "options": {"expires": 170},  # few may wait, where each process has a long batch; one at a time does the work
    },
    "fill-kept-models": {
        "task": "search.tasks.fill",
        "schedule": env.float("VISEARCH_SWEEP_SECONDS", default=60.0),
        "options": {"expires": 55},
    },
    "rebuild-if-needed": {
        "task": "search.tasks.rebuild_if_needed",
        "schedule": 300.0,
        "options": {"expires": 290},
    },
}
VISEARCH_LEASE_SECONDS = env.int("VISEARCH_LEASE_SECONDS", default=120)
VISEARCH_BATCH = env.int("VISEARCH_BATCH", default=16)
VISEARCH_LANES = env.int("VISEARCH_LANES", default=0)  # batches at once in a worker process; 0: as its cores allow
VISEARCH_MAX_ATTEMPTS = 3
VISEARCH_NEAR_DISTANCE = env.int("VISEARCH_NEAR_DISTANCE", default=10)  # bits of 64 in which near duplicates may differ

# --- API --------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "catalog.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticatedOrReadOnly"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["catalog.api.parsers.BoundedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": [
        "rest_framework.throttling.AnonRateThrottle",
        "rest_framework.throttling.UserRateThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "anon": env.str("VISEARCH_THROTTLE_ANON", default="120/min"),
        "user": env.str("VISEARCH_THROTTLE_USER", default="1200/min"),
        "search": env.str("VISEARCH_THROTTLE_SEARCH", default="60/min"),  # of anonymous clients
        "page": env.str("VISEARCH_THROTTLE_PAGE", default="300/min"),  # of anonymous shoppers
        "login": env.str("VISEARCH_THROTTLE_LOGIN", default="10/min"),
    },
    "NUM_PROXIES": env.int("VISEARCH_NUM_PROXIES", default=0),
    "EXCEPTION_HANDLER": "visearch_site.errors.problem_json",
}
VISEARCH_IDEMPOTENCY_HOURS = env.float("VISEARCH_IDEMPOTENCY_HOURS", default=24.0)  # an Idempotency-Key is kept so long
REST_KNOX = {"TOKEN_TTL": timedelta(days=env.int("VISEARCH_TOKEN_DAYS", default=30)), "AUTO_REFRESH": False}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "visearch",
    "DESCRIPTION": "Find images by images.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},  # None: no badge from another site
}

# --- Logs -------------------------------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    # At import NMSLIB tells of each of its 70 spaces and methods, FAISS of the processor it was compiled for.
    # urllib3 would quote whatever headers a hostile server sends.
    "loggers": {
        "nmslib": {"level": "WARNING"},
        "faiss.loader": {"level": "WARNING"},
        "urllib3": {"level": "ERROR"},
    },
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
}
