"""Handlers that fetch from another server with aiohttp's client: one session for each worker.

The other server is what UPSTREAM names.
"""

import asyncio
import os
from contextlib import asynccontextmanager

import aiohttp
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

UPSTREAM = os.environ.get("UPSTREAM", "http://127.0.0.1:9000")


@asynccontextmanager
async def lifespan(app):
    # In the lifespan, because a session belongs to the loop that runs it, and its connections are
    # kept alive from one request to the next.
    timeout = aiohttp.ClientTimeout(total=float(os.environ.get("UPSTREAM_TIMEOUT", "10")))
    # A server that compresses holds small pieces back, and Relay passes on each as it comes.
    headers = {"Accept-Encoding": "identity"}
    async with aiohttp.ClientSession(UPSTREAM, timeout=timeout, headers=headers) as session:
        yield {"session": session}
    print("the session is closed", flush=True)


async def fetch(request):
    """The other server's answer as a whole."""
    async with request.state.session.get(f"/{request.path_params['path']}") as answer:
        return Response(await answer.read(), answer.status, media_type=answer.content_type)


async def fetch_all(request):
    """Several at once: the sizes of what ?path=…&path=… name."""
    async def size(path):
        async with request.state.session.get(path) as answer:
            return len(await answer.read())

    paths = request.query_params.getlist("path")
    sizes = await asyncio.gather(*map(size, paths))
    return JSONResponse({"sizes": sizes})


class Relay(StreamingResponse):
    """Another server's answer, piece by piece as it comes.

    It closes that answer itself. A generator that is left suspended, as it is when the client has
    gone and the piece can't be sent, runs its `finally` only when it is collected as garbage.
    """

    def __init__(self, answer):
        super().__init__(answer.content.iter_any(), answer.status, media_type=answer.content_type)
        self.answer = answer

    async def __call__(self, scope, receive, send):
        async with self.answer:
            await super().__call__(scope, receive, send)


async def relay(request):
    return Relay(await request.state.session.get(f"/{request.path_params['path']}"))


async def forward(request):
    """The request's body, piece by piece as it comes, to the other server."""
    async with request.state.session.put(f"/{request.path_params['path']}",
                                         data=request.stream()) as answer:
        return Response(await answer.read(), answer.status, media_type=answer.content_type)


async def bad_gateway(request, error):
    return JSONResponse({"error": f"the other server failed: {error}"}, status_code=502)


async def gateway_timeout(request, error):
    return JSONResponse({"error": "the other server took too long"}, status_code=504)


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/fetch/{path:path}", fetch),
        Route("/fetch-all", fetch_all),
        Route("/relay/{path:path}", relay),
        Route("/forward/{path:path}", forward, methods=["PUT"]),
    ],
    exception_handlers={aiohttp.ClientError: bad_gateway, asyncio.TimeoutError: gateway_timeout},
)
