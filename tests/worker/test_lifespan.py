"""ASGI's lifespan rules by the names of the project's checklist, and how a worker leaves."""

import pytest

APP = '''
import asyncio
events = []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    scope["state"]["mine"] = "only this request's"
    body = repr({**scope["state"], "events": events}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

async def lifespan(scope, receive, send):
'''


def with_lifespan(app, body):
    app(APP + "\n".join("    " + line for line in body.strip("\n").splitlines()) + "\n")


GOOD = '''
events.append((scope["type"], scope["asgi"], (await receive())["type"]))
scope["state"]["loop"] = asyncio.get_running_loop().__class__.__name__
scope["state"]["shared"] = shared = []
shared.append(1)
await send({"type": "lifespan.startup.complete"})
print("got", (await receive())["type"], flush=True)
await asyncio.sleep(0.01)
await send({"type": "lifespan.shutdown.complete"})
print("shut down", flush=True)
'''


@pytest.mark.parametrize("load", [True, False], ids=["preloaded", "loaded by the worker"])
def test_L1_L2_L5_L7_startup_state_and_shutdown(app, mold, python, load):
    with_lifespan(app, GOOD)
    running = mold(python=python, load=load)
    worker = running.serving_worker()
    for _ in range(2):
        seen = eval(worker.request()[1])
        assert seen["loop"] == "MgrLoop" and seen["shared"] == [1] and seen["mine"]
        assert seen["events"] == [("lifespan", {"version": "3.0", "spec_version": "2.0"},
                                   "lifespan.startup")]
    assert "got" not in running.output()
    worker.drain()
    worker.receive("stopped_accepting")
    assert worker.wait() == 0
    assert running.output().splitlines() == ["got lifespan.shutdown", "shut down"]
    assert running.log() == ""


def test_L3_an_exception_means_no_lifespan_in_auto(app, mold, python):
    with_lifespan(app, "raise KeyError('unknown scope')")
    running = mold(python=python)
    worker = running.serving_worker()
    assert worker.request()[0] == 200
    running.wait_for_log("does not support lifespan (KeyError")
    worker.drain()
    assert worker.wait() == 0


def test_L3_an_exception_fails_the_start_with_on(app, mold, python):
    with_lifespan(app, "raise KeyError('unknown scope')")
    running = mold(python=python, lifespan="on")
    running.loaded()
    worker = running.fork()
    failure = worker.receive("boot_failed")
    assert (failure["stage"], failure["exit_status"]) == ("lifespan", 3)
    assert "KeyError: 'unknown scope'" in failure["error"]
    assert failure["traceback"].startswith("Traceback") and "mgr_host" not in failure["traceback"]
    assert worker.wait() == 3


def test_L3_one_that_has_listened_before_is_served_in_auto_with_a_warning(app, mold):
    with_lifespan(app, "await receive()\nraise OSError('no database')")
    running = mold()
    worker = running.serving_worker()
    assert worker.request()[0] == 200
    running.wait_for_log("OSError: no database")
    log = running.log()
    assert "[warning] the application's start-up raised an exception; by `lifespan: auto`" in log
    assert "Traceback (most recent call last)" in log and "mgr_host" not in log


def test_L3_one_that_answers_as_to_a_request_has_no_lifespan(app, mold):
    with_lifespan(app, 'await receive()\nawait send({"type": "http.response.start", "status": 200})')
    running = mold()
    assert running.serving_worker().request()[0] == 200
    running.wait_for_log("does not support lifespan (RuntimeError")
    assert "[warning]" not in running.log()


@pytest.mark.parametrize("raised, said", [
    ("asyncio.CancelledError()", "CancelledError"), ("Unprintable()", "lifespan.<locals>.Unprintable: <exception str() failed>")])
@pytest.mark.parametrize("lifespan", ["auto", "on"])
def test_L3_however_odd_the_exception(app, mold, lifespan, raised, said):
    with_lifespan(app, f"""
import asyncio
class Unprintable(Exception):
    def __str__(self):
        raise KeyError
raise {raised}
""")
    running = mold(lifespan=lifespan)
    if lifespan == "auto":
        assert running.serving_worker().request()[0] == 200
        running.wait_for_log(f"does not support lifespan ({said})")
        return
    running.loaded()
    worker = running.fork()
    failure = worker.receive("boot_failed")
    assert (failure["stage"], failure["exit_status"]) == ("lifespan", 3)
    assert failure["error"] == f"lifespan failed: {said}"
    assert worker.wait() == 3


@pytest.mark.parametrize("lifespan", ["auto", "on"])
def test_L4_startup_failed_ends_the_worker_in_every_mode(app, mold, lifespan):
    with_lifespan(app, '''
await receive()
await send({"type": "lifespan.startup.failed", "message": "Traceback:\\n  x\\nOSError: no database"})
''')
    running = mold(lifespan=lifespan)
    running.loaded()
    worker = running.fork()
    failure = worker.receive("boot_failed")
    assert (failure["stage"], failure["exit_status"]) == ("lifespan", 3)
    assert failure["error"] == "the application's start-up failed: OSError: no database"
    assert failure["traceback"] == "Traceback:\n  x\nOSError: no database"
    assert worker.wait() == 3


def test_L5_shutdown_comes_when_the_last_request_has_been_answered(app, mold, python):
    app('''
import asyncio
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        print((await receive())["type"])
        return await send({"type": "lifespan.shutdown.complete"})
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"begun,", "more_body": True})
    await asyncio.sleep(0.3)
    print("answered")
    await send({"type": "http.response.body", "body": b"ended"})
''')
    running = mold(python=python)
    worker = running.serving_worker()
    connection = worker.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    received = connection.recv(65536)
    worker.drain()
    while part := connection.recv(65536):
        received += part
    assert b"begun," in received and b"ended" in received
    connection.close()
    assert worker.wait() == 0
    assert running.output().splitlines() == ["answered", "lifespan.shutdown"]


def test_L5_shutdown_failed_is_logged_and_the_worker_leaves(app, mold):
    with_lifespan(app, '''
await receive()
await send({"type": "lifespan.startup.complete"})
await receive()
await send({"type": "lifespan.shutdown.failed", "message": "could not flush"})
''')
    running = mold()
    worker = running.serving_worker()
    worker.drain()
    assert worker.wait() == 0
    assert "the application's shutdown failed: could not flush" in running.log()


def test_L6_an_application_that_ends_its_lifespan_early_gets_no_shutdown(app, mold):
    with_lifespan(app, '''
await receive()
await send({"type": "lifespan.startup.complete"})
''')
    running = mold()
    worker = running.serving_worker()
    assert worker.request()[0] == 200
    worker.drain()
    assert worker.wait() == 0
    assert running.log() == ""


def test_L8_other_messages_and_a_second_complete_raise(app, mold):
    with_lifespan(app, '''
await receive()
for kind in ("http.response.start", "lifespan.started", "lifespan.shutdown.complete"):
    try:
        await send({"type": kind})
    except RuntimeError as error:
        events.append(kind)
await send({"type": "lifespan.startup.complete"})
try:
    await send({"type": "lifespan.startup.complete"})
except RuntimeError as error:
    events.append("second")
await receive()
''')
    worker = mold().serving_worker()
    events = eval(worker.request()[1])["events"]
    assert events == ["http.response.start", "lifespan.started", "lifespan.shutdown.complete",
                      "second"]


def test_off_means_that_the_application_never_hears_of_lifespan(app, mold):
    with_lifespan(app, "print('called', flush=True)")
    running = mold(lifespan="off")
    worker = running.serving_worker()
    assert worker.request()[0] == 200
    worker.drain()
    assert worker.wait() == 0
    assert running.output() == ""


def test_a_startup_that_hangs_can_be_ended_by_quit_and_by_drain(app, mold):
    with_lifespan(app, "await asyncio.sleep(1000)")
    running = mold()
    running.loaded()
    for order in ("quit", "drain"):
        worker = running.fork()
        if order == "quit":
            worker.channel.send("quit")
        else:
            worker.drain()
        assert worker.wait() == 0


def test_a_shutdown_that_hangs_is_bounded_by_the_drain(app, mold):
    with_lifespan(app, '''
await receive()
await send({"type": "lifespan.startup.complete"})
await receive()
await asyncio.sleep(1000)
''')
    running = mold()
    worker = running.serving_worker()
    worker.drain(timeout_ms=300)
    assert worker.wait() == 0
    assert running.log().count("the application's shutdown did not finish within graceful_timeout") == 1


def test_lifespan_of_an_asgi_2_application(app, mold):
    app('''
events = []
class Application:
    def __init__(self, scope):
        self.scope = scope
    async def __call__(self, receive, send):
        if self.scope["type"] == "lifespan":
            events.append((await receive())["type"])
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            print("shut down", flush=True)
            return
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": repr(events).encode()})
app = Application
''')
    running = mold()
    assert running.loaded()["interface"] == "asgi2"
    worker = running.fork()
    assert worker.ready()["interface"] == "asgi2"
    worker.listen()
    assert worker.request() == (200, b"['lifespan.startup']")
    worker.drain()
    assert worker.wait() == 0
    assert running.output() == "shut down\n"
    assert running.log() == ""
