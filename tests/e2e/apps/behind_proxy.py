"""What can be seen from behind a proxy: headers, bodies as they come, events one by one."""

import asyncio
import os
from pathlib import Path

received = 0  # bytes of the upload in hand
ended = ""    # how the last upload ended
sent = 0      # bytes of the download in hand that send() has taken
step = asyncio.Event()


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await ROUTES.get(scope["path"], scope_text)(scope, receive, send)


async def respond(send, body):
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def scope_text(scope, receive, send):
    shown = {key: scope[key] for key in ("http_version", "scheme", "client", "server", "headers")}
    await respond(send, repr(shown).encode())


async def upload(scope, receive, send):
    """Counts the body and keeps none of it."""
    global received, ended
    received, ended = 0, ""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            ended = "disconnect"
            return
        received += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    ended = "complete"
    await respond(send, b"got %d" % received)


async def progress(scope, receive, send):
    await respond(send, b"%d %s" % (received, ended.encode()))


UNBUFFERED = (b"x-accel-buffering", b"no")


async def download(scope, receive, send):
    """50 MB, as fast as send() allows."""
    global sent
    sent = 0
    headers = [UNBUFFERED] if scope["query_string"] == b"unbuffered" else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(50):
        await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
        sent += 1_000_000
    await send({"type": "http.response.body"})


async def sent_text(scope, receive, send):
    await respond(send, b"%d" % sent)


async def events(scope, receive, send):
    """Three events; each but the first waits until /next is asked for."""
    headers = [(b"content-type", b"text/event-stream"), UNBUFFERED]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(3):
        event = b"data: %d\n\n" % number
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await step.wait()
        step.clear()
    await send({"type": "http.response.body"})


async def next_event(scope, receive, send):
    step.set()
    await respond(send, b"set")


async def record(scope, receive, send):
    """Leaves a line each time that it is executed, and does not come to an end."""
    with open(Path(__file__).with_name("record"), "a") as file:
        file.write(f"{os.getpid()}\n")
    await asyncio.sleep(60)


ROUTES = {"/upload": upload, "/progress": progress, "/events": events, "/next": next_event,
          "/record": record, "/download": download, "/sent": sent_text}
