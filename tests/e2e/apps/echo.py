"""Raw ASGI with what the tests need; /echo/ID is the path under load."""

import asyncio
import os


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        await ROUTES.get(scope["path"], echo)(scope, receive, send)


async def lifespan(receive, send):
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            print(f"lifespan shutdown in {os.getpid()}", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return


async def respond(send, body, status=200, headers=()):
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive):
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def echo(scope, receive, send):
    await respond(send, b"echo " + scope["path"].encode())


async def pid(scope, receive, send):
    await respond(send, b"%d" % os.getpid())


async def slow(scope, receive, send):
    await asyncio.sleep(float(scope["query_string"] or b"1"))
    await respond(send, b"slow")


async def post(scope, receive, send):
    await respond(send, b"got %d" % len(await body_of(receive)))


async def stream(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(int(scope["query_string"] or b"5")):
        await send({"type": "http.response.body", "body": b"part %d\n" % number, "more_body": True})
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"end\n"})


async def scope_text(scope, receive, send):
    shown = {key: scope.get(key) for key in
             ("http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path",
              "headers", "client", "server")}
    await respond(send, repr(shown).encode())


async def fail(scope, receive, send):
    raise RuntimeError("the application failed on purpose")


async def head(scope, receive, send):
    await respond(send, b"a body that HEAD must not get")


async def ignore_body(scope, receive, send):
    await respond(send, b"never read it")


async def flood(scope, receive, send):
    """200 MB, as fast as send() allows."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(200):
        await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
    await send({"type": "http.response.body"})


ROUTES = {
    "/flood": flood,
    "/pid": pid,
    "/slow": slow,
    "/post": post,
    "/stream": stream,
    "/scope": scope_text,
    "/fail": fail,
    "/head": head,
    "/ignore-body": ignore_body,
}
