"""A small Starlette application: routes, middleware, sessions, streams each way, a background task."""

import asyncio
import hashlib
import os
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.routing import Mount, Route


@asynccontextmanager
async def lifespan(app):
    # Each worker has a state of its own: what one request leaves here, another worker does not see.
    journal = []
    yield {"journal": journal}
    print(f"the journal had {len(journal)} entries", flush=True)


class WorkerHeader:
    """Names the worker in each response: a middleware of plain ASGI."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def send_with_header(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-worker", str(os.getpid()).encode())]
            await send(message)

        await self.app(scope, receive, send_with_header if scope["type"] == "http" else send)


async def index(request):
    return JSONResponse({"message": "Hello from mgr", "worker": os.getpid()})


async def hello(request):
    return JSONResponse({"greeting": f"Hello, {request.path_params['name']}!"})


async def add_entry(request):
    entry = (await request.json())["entry"]

    async def write():
        await asyncio.sleep(0.1)  # the client has its answer by now
        request.state.journal.append(entry)

    return JSONResponse({"accepted": entry}, status_code=202, background=BackgroundTask(write))


async def entries(request):
    """What the background tasks of this worker have written."""
    return JSONResponse({"worker": os.getpid(), "entries": request.state.journal})


async def visit(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JSONResponse({"visits": request.session["visits"]})


async def count(request):
    async def lines():
        for number in range(1, request.path_params["last"] + 1):
            yield f"{number}\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(lines(), media_type="text/plain")


async def digest(request):
    """Takes a body of any size: memory holds a part of it at a time."""
    size, digest = 0, hashlib.sha256()
    async for part in request.stream():
        size += len(part)
        digest.update(part)
    return JSONResponse({"size": size, "sha256": digest.hexdigest()})


async def source(request):
    return FileResponse(__file__, media_type="text/x-python")


async def teapot(request):
    raise HTTPException(418, "no coffee here")


async def broken(request):
    raise RuntimeError("this ends in the log")


async def explain(request, error):
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", index),
        Route("/hello/{name}", hello),
        Mount("/journal", routes=[Route("/", entries, methods=["GET"]),
                                  Route("/", add_entry, methods=["POST"])]),
        Route("/visits", visit, methods=["POST"]),
        Route("/count/{last:int}", count),
        Route("/digest", digest, methods=["PUT"]),
        Route("/source", source),
        Route("/teapot", teapot),
        Route("/broken", broken),
    ],
    middleware=[
        Middleware(WorkerHeader),
        # Every worker must sign sessions with the same key: not one that is made when it starts.
        Middleware(SessionMiddleware, secret_key=os.environ.get("SHOP_SECRET", "only for the example")),
        Middleware(GZipMiddleware, minimum_size=1000),
    ],
    exception_handlers={HTTPException: explain},
)
