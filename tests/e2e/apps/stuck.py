"""Handlers that are stuck in one way each: for ever, or until the test writes into the FIFO that the
query names."""

import asyncio
import contextlib
import ctypes
import os
import signal
import threading
import time

lock = threading.Lock()
kept = []  # for the life of the process


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await ROUTES[scope["path"]](scope, receive, send)


async def respond(send, body):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def idle(scope, receive, send):
    await respond(send, b"idle")


async def sleeps(scope, receive, send):
    """Blocks the loop, and says for how long."""
    began = time.monotonic()
    time.sleep(float(scope["query_string"]))
    await respond(send, b"%f" % (time.monotonic() - began))


def hold_the_lock(fifo, held):
    with lock:
        held.set()
        with open(fifo, "rb") as file:
            file.read(1)


async def waits_for_a_lock(scope, receive, send):
    held = threading.Event()
    holder = threading.Thread(target=hold_the_lock, args=(scope["query_string"], held), name="the holder")
    holder.start()
    held.wait()
    with lock:
        pass
    holder.join()
    await respond(send, b"got it")


async def holds_the_gil(scope, receive, send):
    """PyDLL calls without releasing the GIL; read() is restarted where a signal interrupts it."""
    with open(scope["query_string"], "rb", buffering=0) as file:
        buffer = ctypes.create_string_buffer(1)
        ctypes.PyDLL(None).read(file.fileno(), buffer, 1)
    await respond(send, b"let go")


async def innermost(event):
    await event.wait()  # the innermost line


async def numbers(event):
    yield 1
    await innermost(event)
    yield 2


@contextlib.asynccontextmanager
async def managed(event):
    async for _ in numbers(event):
        pass
    yield


async def middle(event):
    async with managed(event):
        pass


async def listen(receive):
    while (await receive())["type"] == "http.request":
        pass


async def deep(scope, receive, send):
    async with asyncio.TaskGroup() as group:
        group.create_task(middle(asyncio.Event()), name="the deep one")
        group.create_task(listen(receive), name="the listener")


async def steals_the_signal(scope, receive, send):
    signal.signal(signal.SIGRTMAX - 4, lambda *_: None)
    await respond(send, b"stolen")


async def ignores_the_signal(scope, receive, send):
    signal.signal(signal.SIGRTMAX - 4, signal.SIG_DFL)
    await respond(send, b"default")


async def closes_descriptors(scope, receive, send):
    """As what makes itself a daemon does, but for those that are needed to answer; whatever is opened
    next has the numbers that were closed."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("pipe:") and int(name) > 2:
                os.close(int(name))
    kept.extend(os.open("victim", os.O_WRONLY | os.O_CREAT, 0o600) for _ in range(8))
    await respond(send, b"closed")


async def many_tasks(scope, receive, send):
    kept.extend(asyncio.create_task(innermost(asyncio.Event()), name="many " + "x" * 190)
                for _ in range(int(scope["query_string"])))
    await asyncio.sleep(0)
    await respond(send, b"made")


async def die(scope, receive, send):
    os._exit(7)


ROUTES = {
    "/": idle,
    "/sleep": sleeps,
    "/lock": waits_for_a_lock,
    "/gil": holds_the_gil,
    "/deep": deep,
    "/steal": steals_the_signal,
    "/default": ignores_the_signal,
    "/close": closes_descriptors,
    "/many": many_tasks,
    "/die": die,
}
