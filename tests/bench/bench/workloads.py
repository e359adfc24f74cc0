"""What is asked of the servers: one row of data for each workload."""

from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Workload:
    key: str
    title: str
    # Ways to answer it: {kind of application: what a server of that kind is given}. The kind 'fixed'
    # has no application: the server itself answers.
    answers: dict
    path: str = "/"
    body_size: int | None = None  # POST with so many bytes
    expect: str = "Hello, world!\n"  # what the response's body begins with
    modules: tuple = ()  # of Python, which the application needs


WORKLOADS = [
    Workload("native", "C++ hello", {"fixed": None, "native": "hello.so"}),
    Workload("hello", "raw ASGI hello", {"fixed": None, "asgi": "asgi:hello"}),
    Workload("sleep", "raw ASGI with sleep(0)", {"asgi": "asgi:sleep"}),
    Workload("echo", "10 kB POST echo", {"asgi": "asgi:echo"}, body_size=10_000, expect=""),
    Workload("executor", "run_in_executor", {"asgi": "asgi:executor"}),
    Workload("starlette", "Starlette JSON", {"asgi": "starlette_json:app"}, path="/items/7",
             expect='{"id":7', modules=("starlette",)),
    Workload("fastapi", "FastAPI JSON, pydantic", {"asgi": "fastapi_json:app"},
             path="/items/7?limit=2", expect='{"id":7', modules=("fastapi",)),
    Workload("wsgi", "raw WSGI hello", {"fixed": None, "wsgi": "wsgi:hello"}),
    Workload("flask", "Flask JSON", {"wsgi": "flask_json:app"}, path="/items/7", expect='{"id":7',
             modules=("flask",)),
    Workload("django", "Django JSON, WSGI", {"wsgi": "django_json:wsgi"}, path="/items/7",
             expect='{"id": 7', modules=("django",)),
    Workload("django-asgi", "Django JSON, ASGI", {"asgi": "django_json:asgi"}, path="/items/7",
             expect='{"id": 7', modules=("django",)),
]
