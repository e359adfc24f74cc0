"""A small Django project in one file: models on SQLite, sessions, uploads, streams, files.

`application` is WSGI; `mgr run main:asgi_application` serves the same by ASGI.
"""

import asyncio
import os
import time
from pathlib import Path

import django
from django.conf import settings

DATA = Path(os.environ.get("SHOP_DATA", Path(__file__).with_name("data"))).absolute()
DATA.mkdir(parents=True, exist_ok=True)

settings.configure(
    ALLOWED_HOSTS=["*"],
    # Every worker must sign sessions with the same key: not one that is made when it starts.
    SECRET_KEY=os.environ.get("SHOP_SECRET", "only for the example"),
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware",
                "django.middleware.common.CommonMiddleware"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA / "shop.sqlite3",
                           "OPTIONS": {"timeout": 10}}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    LOGGING={"version": 1, "disable_existing_loggers": False,
             "handlers": {"console": {"class": "logging.StreamHandler"}},
             "root": {"handlers": ["console"], "level": "WARNING"}},
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.http import FileResponse, Http404, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils.text import get_valid_filename  # noqa: E402
from django.views.decorators.http import require_GET, require_POST  # noqa: E402


class Item(models.Model):
    name = models.CharField(max_length=100)

    class Meta:
        app_label = "shop"


def make_tables():
    call_command("migrate", verbosity=0)
    if Item._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Item)
    connection.close()  # a connection must not be shared by the workers that are forked


make_tables()


@require_GET
def index(request):
    return JsonResponse({"worker": os.getpid(), "items": Item.objects.count()})


def items(request):
    if request.method == "POST":
        name = request.POST.get("name", "")
        if not name:
            return JsonResponse({"error": "a name is wanted"}, status=400)
        return JsonResponse({"id": Item.objects.create(name=name).pk, "name": name}, status=201)
    return JsonResponse(list(Item.objects.order_by("id").values("id", "name")), safe=False)


@require_POST
def visit(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})


@require_POST
def upload(request):
    file = request.FILES["file"]
    name = get_valid_filename(file.name)
    with open(DATA / name, "wb") as target:
        for chunk in file.chunks():
            target.write(chunk)
    return JsonResponse({"name": name, "size": (DATA / name).stat().st_size}, status=201)


@require_GET
def download(request, name):
    if name != get_valid_filename(name) or not (DATA / name).is_file():
        raise Http404
    return FileResponse(open(DATA / name, "rb"))  # by sendfile


@require_GET
def export(request):
    """A row at a time, while the client reads."""
    count = int(request.GET.get("rows", 1000))
    return StreamingHttpResponse((f"{number},item {number}\r\n" for number in range(count)),
                                 content_type="text/csv")


@require_GET
def slow(request):
    time.sleep(float(request.GET.get("seconds", 1)))
    return JsonResponse({"slept": True})


async def pause(request):
    """Waits without a thread."""
    await asyncio.sleep(float(request.GET.get("seconds", 1)))
    return JsonResponse({"paused": True})


@require_GET
def broken(request):
    raise RuntimeError("this ends in the log")


urlpatterns = [
    path("", index), path("items", items), path("visits", visit), path("files", upload),
    path("files/<name>", download), path("export", export), path("slow", slow),
    path("pause", pause), path("broken", broken),
]

application = get_wsgi_application()
asgi_application = get_asgi_application()
