"""Raw ASGI applications: one callable for each workload."""

import asyncio

HELLO = b"Hello, world!\n"
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(HELLO))]


async def answer(send, headers, body):
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hello(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": HELLO})


async def sleep(scope, receive, send):
    assert scope["type"] == "http"
    await asyncio.sleep(0)
    await answer(send, HEADERS, HELLO)


async def echo(scope, receive, send):
    assert scope["type"] == "http"
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"".join(parts)
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % len(body))]
    await answer(send, headers, body)


async def executor(scope, receive, send):
    assert scope["type"] == "http"
    body = await asyncio.get_running_loop().run_in_executor(None, bytes, HELLO)
    await answer(send, HEADERS, body)
