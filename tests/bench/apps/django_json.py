"""One view of Django, as JSON, without a database; by WSGI and by ASGI."""

from django.conf import settings

settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="only for the benchmark", ROOT_URLCONF=__name__,
                   MIDDLEWARE=["django.middleware.common.CommonMiddleware"])

from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402


def item(request, number):
    return JsonResponse({"id": number, "name": f"item {number}"})


urlpatterns = [path("items/<int:number>", item)]

wsgi = get_wsgi_application()
asgi = get_asgi_application()
