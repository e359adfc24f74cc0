"""Answers whose numbers are known: /status/404, /sleep?0.3; /block?30 blocks the loop itself."""

import asyncio
import os
import time


async def lifespan(receive, send):
    await receive()
    await asyncio.sleep(float(os.environ.get("START_UP_SECONDS", "0")))
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    status = 200
    path, query = scope["path"], scope["query_string"] or b"1"
    if path.startswith("/status/"):
        status = int(path.rsplit("/", 1)[1])
    elif path == "/sleep":
        await asyncio.sleep(float(query))
    elif path == "/block":
        time.sleep(float(query))
    body = b"measured " + path.encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
