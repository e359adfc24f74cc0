"""What chaos is done to: /echo/ID under load, and ways to block the loop."""

import os
import time

VERSION = 0


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    path = scope["path"]
    if path == "/version":
        body = b"%d" % VERSION
    elif path == "/pid":
        body = b"%d" % os.getpid()
    elif path == "/block":
        time.sleep(float(scope["query_string"]))
        body = b"blocked"
    else:
        body = b"echo " + path.encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive, send):
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await started()
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


async def started():
    pass
