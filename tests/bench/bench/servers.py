"""Who answers: one row of data for each server. All have one worker and no access log."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]
ROOT = BENCH.parents[1]
APPS = BENCH / "apps"


@dataclass(frozen=True, eq=False)
class Place:
    """Where one run of a server happens."""
    build: Path
    python: str
    directory: Path  # its own, empty
    port: int
    keep_alive: bool  # false: each request comes with a connection of its own


@dataclass(frozen=True, eq=False)
class Server:
    key: str
    title: str
    kinds: tuple  # of the applications that it serves, see workloads.py
    command: object  # (Place, kind, target) -> list of arguments
    package: str | None = None  # of Debian; None: it is ours
    modules: tuple = ()  # of Python, by which it is found
    program: str | None = None  # by which it is found if it has no modules; None: its key
    # Most connections that it keeps alive at once; more of them would starve. None: as many as you like.
    connections: int | None = None
    # Workloads in which it keeps no connection alive, so that each request is given one of its own.
    closes: tuple = ()


def mgr(place, kind, target):
    if kind == "native":
        target = str(place.build / "tests/bench/native" / target)
    return [place.build / "bin/mgr", "run", target, "--bind", f"127.0.0.1:{place.port}",
            "--workers", "1", "--python", place.python, "--control", place.directory / "control.sock"]


def mgr_by_one_thread(place, kind, target):
    return [*mgr(place, kind, target), *(["--threads", "1"] if kind == "wsgi" else [])]


def mgr_by_four_threads(place, kind, target):
    return [*mgr(place, kind, target), "--threads", "4"]


def gunicorn(*options):
    def command(place, kind, target):
        return [place.python, "-m", "gunicorn", target, *options, "-w", "1", "-b",
                f"127.0.0.1:{place.port}", "--log-level", "warning"]
    return command


def uwsgi(*options):
    # Its http11-socket keeps a connection whatever the request's `Connection` says, and the thread that
    # serves it with it, until socket-timeout; its http-socket closes each.
    def command(place, kind, target):
        return ["uwsgi_python3", "--http11-socket" if place.keep_alive else "--http-socket",
                f"127.0.0.1:{place.port}", "--module", target, "--processes", "1", "--need-app",
                "--disable-logging", "--die-on-term", *options]
    return command


def epoll_limit(place, kind, target):
    return [place.build / "tests/bench/native/epoll_limit", str(place.port)]


NGINX = """
user {user}; worker_processes 1; daemon off; pid {directory}/nginx.pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type text/plain;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{ listen 127.0.0.1:{port} backlog=2048; location / {{ return 200 "Hello, world!\\n"; }} }}
}}
"""


def nginx(place, kind, target):
    configuration = place.directory / "nginx.conf"
    user = pwd.getpwuid(os.getuid()).pw_name  # as root its worker would be another's, which callgrind refuses
    configuration.write_text(NGINX.format(directory=place.directory, port=place.port, user=user))
    return ["nginx", "-e", "stderr", "-c", configuration]


def gunicorn_uvicorn(place, kind, target):
    return [place.python, "-m", "gunicorn", target, "-k", "uvicorn.workers.UvicornWorker", "-w", "1",
            "-b", f"127.0.0.1:{place.port}", "--log-level", "warning"]


def uvicorn(place, kind, target):
    return [place.python, "-m", "uvicorn", target, "--host", "127.0.0.1", "--port", str(place.port),
            "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]


def hypercorn(place, kind, target):
    return [place.python, "-m", "hypercorn", "-w", "1", "-b", f"127.0.0.1:{place.port}",
            "-k", "uvloop", target]


def daphne(place, kind, target):
    return [place.python, "-m", "daphne", "-b", "127.0.0.1", "-p", str(place.port), "-v", "0", target]


SERVERS = [
    Server("limit", "bare epoll loop", ("fixed",), epoll_limit),
    Server("nginx", "nginx `return 200`", ("fixed",), nginx, "nginx"),
    Server("mgr", "mgr", ("asgi", "native", "wsgi"), mgr_by_one_thread),
    Server("mgr-4", "mgr, 4 threads", ("wsgi",), mgr_by_four_threads),
    Server("gunicorn", "gunicorn + uvicorn worker", ("asgi",), gunicorn_uvicorn, "gunicorn",
           ("gunicorn", "uvicorn", "uvloop", "httptools")),
    Server("uvicorn", "uvicorn", ("asgi",), uvicorn, "python3-uvicorn",
           ("uvicorn", "uvloop", "httptools")),
    # It closes the connection where the application answered before it had read the request's end.
    Server("hypercorn", "hypercorn", ("asgi",), hypercorn, "python3-hypercorn", ("hypercorn", "uvloop"),
           closes=("hello", "starlette", "fastapi")),
    Server("daphne", "daphne", ("asgi",), daphne, "daphne", ("daphne",)),
    # Its sync worker closes each connection.
    Server("gunicorn-sync", "gunicorn, sync", ("wsgi",), gunicorn(), "gunicorn", ("gunicorn",),
           closes=("wsgi", "flask", "django")),
    Server("gunicorn-gthread", "gunicorn, 4 threads", ("wsgi",),
           gunicorn("-k", "gthread", "--threads", "4"), "gunicorn", ("gunicorn",)),
    Server("uwsgi", "uwsgi", ("wsgi",), uwsgi(), "uwsgi-plugin-python3", program="uwsgi_python3",
           connections=1),
    Server("uwsgi-4", "uwsgi, 4 threads", ("wsgi",), uwsgi("--threads", "4", "--enable-threads"),
           "uwsgi-plugin-python3", program="uwsgi_python3", connections=4),
]


def answer_of(server, workload):
    """(kind, target) with which the server answers the workload; None: it does not."""
    for kind, target in workload.answers.items():
        if kind in server.kinds:
            return kind, target
    return None
