"""asyncio on each of the loops: what applications and libraries expect of an event loop."""

import json
import os
import re
import signal
import time

import pytest

import mold_harness
from conftest import LOOPS_OF

APP = '''
import asyncio, concurrent.futures, contextvars, json, os, signal, socket, sys, threading, time

results = {}

async def answer(send, value):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})

async def executor(loop):
    started = time.monotonic()
    found = await asyncio.gather(*(loop.run_in_executor(None, threading.current_thread().__class__.__name__.__len__)
                                   for _ in range(50)))
    value = await asyncio.to_thread(lambda: threading.current_thread() is threading.main_thread())
    return [len(found), value, time.monotonic() - started < 2]

async def threadsafe(loop):
    future = loop.create_future()
    def later():
        time.sleep(0.05)
        loop.call_soon_threadsafe(future.set_result, "from a thread")
    threading.Thread(target=later).start()
    started = time.monotonic()
    value = await future
    return [value, time.monotonic() - started < 0.3]

async def timers(loop):
    started = loop.time()  # debug mode looks at the stack while it schedules
    order, done = [], loop.create_future()
    loop.call_later(0.03, order.append, 3)
    loop.call_later(0.01, order.append, 1)
    loop.call_at(loop.time() + 0.02, order.append, 2)
    loop.call_later(0.04, done.set_result, None)
    await done
    return [order, 0.039 < loop.time() - started < 1]

async def nested(loop):
    """As nest_asyncio does it: the loop is run inside of a handler."""
    inner = asyncio.ensure_future(asyncio.sleep(0.2, "inner"))
    this = asyncio.current_task()
    asyncio.tasks._leave_task(loop, this)
    while not inner.done():
        loop._run_once()
    asyncio.tasks._enter_task(loop, this)
    return inner.result()

async def timeout(loop):
    try:
        async with asyncio.timeout(0.02):
            await asyncio.sleep(10)
    except TimeoutError:
        return "timed out"

async def task_group(loop):
    order = []
    async def child(n):
        await asyncio.sleep(0)
        order.append(n)
    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(child(n))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(10))
            raise ValueError("out")
    except* ValueError:
        order.append("group")
    return order

async def reader(loop):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    got = loop.create_future()
    loop.add_reader(ours, lambda: got.done() or got.set_result(ours.recv(10)))
    loop.call_later(0.01, theirs.send, b"ping")
    value = await got
    loop.remove_reader(ours)
    ours.close(); theirs.close()
    return value.decode()

async def closed_reader(loop):
    """A descriptor that is closed while it is watched must not end the process."""
    ours, theirs = socket.socketpair()
    loop.add_reader(ours, lambda: None)
    os.close(os.dup(ours.fileno()))
    theirs.close()
    await asyncio.sleep(0.01)
    fd = ours.detach()
    os.close(fd)
    await asyncio.sleep(0.01)
    loop.remove_reader(fd)
    return "alive"

async def streams(loop):
    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello\\n")
    value = await reader.read()
    writer.close()
    server.close()
    return value.decode()

async def subprocess(loop):
    program = await asyncio.create_subprocess_exec("sh", "-c", "cat; exit 3", stdin=-1, stdout=-1)
    out, _ = await asyncio.wait_for(program.communicate(b"through cat"), 10)
    return [out.decode(), program.returncode]

async def signals(loop):
    got = []
    future = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, lambda: (got.append("loop"), future.done() or future.set_result(None)))
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(future, 5)
    loop.remove_signal_handler(signal.SIGUSR1)
    return got

async def python_signal(loop):
    signal.signal(signal.SIGUSR2, lambda *_: results.__setitem__("usr2", time.monotonic()))
    return "ready"

async def last_signal(loop):
    return results.get("usr2") and True

async def factory(loop):
    made = []
    def make(loop, coroutine, **named):
        made.append(type(coroutine).__name__)
        loop.call_soon(made.append, "called")
        loop.call_soon(made.append, "not called", context=contextvars.copy_context()).cancel()
        return asyncio.Task(coroutine, loop=loop, **named)
    loop.set_task_factory(make)
    results["made"] = made
    return "set"

async def made(loop):
    loop.set_task_factory(None)
    return results["made"]

async def wait_for(loop):
    try:
        await asyncio.wait_for(asyncio.sleep(10), 0.01)
    except asyncio.TimeoutError:
        pass
    return await asyncio.wait_for(asyncio.sleep(0, "value"), 1)

async def queue(loop):
    queue = asyncio.Queue(1)
    async def put():
        for n in range(100):
            await queue.put(n)
    task = asyncio.create_task(put())
    values = [await queue.get() for _ in range(100)]
    await task
    return values == list(range(100))

async def names(loop):
    return [type(loop).__name__, loop.is_running(), asyncio.get_event_loop() is loop,
            isinstance(loop, asyncio.SelectorEventLoop)]

async def new_loop_in_thread(loop):
    def run():
        async def inner():
            await asyncio.sleep(0.01)
            return type(asyncio.get_running_loop()).__name__
        return asyncio.run(inner())
    return await asyncio.to_thread(run)

async def tasks(loop):
    """Each request is a task of its own among all of them."""
    this = asyncio.current_task()
    asked = loop.create_task(asyncio.sleep(0, "asked"), name="asked")
    names = {task.get_name() for task in asyncio.all_tasks()}
    return [isinstance(this, asyncio.Task), this in asyncio.all_tasks(), "asked" in names, await asked,
            asked in asyncio.all_tasks()]

variable = contextvars.ContextVar("variable", default="untouched")

async def context(loop):
    """What a request sees at its beginning, and after it has been away in every way there is."""
    before = variable.get()
    variable.set("of a request")
    loop.call_soon(variable.set, "of a callback")
    loop.call_later(0.001, variable.set, "of a timer")
    await asyncio.to_thread(variable.set, "of a thread")
    await asyncio.create_task(asyncio.sleep(0.002))
    return [before, variable.get()]

async def servers(loop):
    """A server and a client of the application's own, by protocols, on TCP and a Unix socket."""
    class Shout(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
        def data_received(self, data):
            self.transport.write(data.upper())
            self.transport.write_eof()
    class Ask(asyncio.Protocol):
        def __init__(self):
            self.data, self.done = b"", loop.create_future()
        def connection_made(self, transport):
            transport.write(b"question")
        def data_received(self, data):
            self.data += data
        def connection_lost(self, error):
            self.done.set_result(self.data.decode())
    answers = []
    server = await loop.create_server(Shout, "127.0.0.1", 0)
    _, asked = await loop.create_connection(Ask, *server.sockets[0].getsockname())
    answers.append(await asyncio.wait_for(asked.done, 5))
    server.close()
    path = f"shout-{os.getpid()}.sock"
    server = await loop.create_unix_server(Shout, path)
    _, asked = await loop.create_unix_connection(Ask, path)
    answers.append(await asyncio.wait_for(asked.done, 5))
    server.close()
    return answers

def raising():
    raise ValueError("in a callback")

async def exception_handler(loop):
    heard = []
    loop.set_exception_handler(lambda _, context: heard.append(context))
    loop.call_soon(raising)
    await asyncio.sleep(0.01)
    loop.set_exception_handler(None)
    return [len(heard), repr(heard[0]["exception"]), "raising" in heard[0]["message"]]

async def slow_callback(loop):
    """Debug mode names what has blocked the loop."""
    import logging
    records = []
    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record.getMessage())
    keep = Keep()
    logging.getLogger("asyncio").addHandler(keep)
    before = loop.slow_callback_duration
    loop.set_debug(True)
    loop.slow_callback_duration = 0.05
    try:
        await asyncio.sleep(0)  # to the next turn, which is that of debug mode
        loop.call_soon(time.sleep, 0.06)
        await asyncio.sleep(0.1)
    finally:
        loop.slow_callback_duration = before
        loop.set_debug(False)
        logging.getLogger("asyncio").removeHandler(keep)
    [record] = [record for record in records if "sleep" in record]  # a busy machine has more
    seconds = float(record.rsplit("took ", 1)[1].split()[0])
    return [record.startswith("Executing <"), 0.06 <= seconds < 10]

async def steal(loop):
    """All ways to take a signal; none of these three is to be had."""
    got = results["stolen"] = []
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    loop.add_signal_handler(signal.SIGTERM, got.append, "loop")
    signal.signal(signal.SIGINT, lambda *_: got.append("signal"))
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, lambda *_: sys.exit(5))
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    return before == after

async def stolen(loop):
    return results["stolen"]

async def blocked(loop):
    time.sleep(0.12)
    return "late"

async def debug(loop):
    loop.set_debug(True)
    try:
        await asyncio.sleep(0.01)
        return await executor(loop)
    finally:
        loop.set_debug(False)

async def datagrams(loop):
    got = loop.create_future()
    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            got.set_result(data.decode())
    transport, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    other, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=transport.get_extra_info("sockname"))
    other.sendto(b"datagram")
    value = await got
    transport.close(); other.close()
    return value

async def close(loop):
    try:
        loop.close()
    except RuntimeError as error:
        return str(error)

async def forked(loop):
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return await loop.run_in_executor(None, pool.map, abs, [-1, -2])

async def app(scope, receive, send):
    assert scope["type"] == "http"
    case = globals()[scope["path"][1:]]
    await answer(send, await case(asyncio.get_running_loop()))
'''

EXPECTED = {
    "executor": [50, False, True],
    "threadsafe": ["from a thread", True],
    "timers": [[1, 2, 3], True],
    "timeout": "timed out",
    "task_group": [0, 1, 2, "group"],
    "reader": "ping",
    "closed_reader": "alive",
    "streams": "HELLO\n",
    "subprocess": ["through cat", 3],
    "signals": ["loop"],
    "wait_for": "value",
    "queue": True,
    "new_loop_in_thread": "_UnixSelectorEventLoop",
    "debug": [50, False, True],
    "datagrams": "datagram",
    "forked": [1, 2],
    "tasks": [True, True, True, "asked", False],
    "context": ["untouched", "of a request"],
    "servers": ["QUESTION", "QUESTION"],
    "exception_handler": [1, "ValueError('in a callback')", True],
    "slow_callback": [True, True],
}
LOOP_TYPES = {"mgr": "MgrLoop", "asyncio": "AsyncioLoop", "uvloop": "UvLoop"}


@pytest.fixture(scope="module")
def worker(python_and_loop, tmp_path_factory):
    directory = tmp_path_factory.mktemp("loop")
    (directory / "main.py").write_text(APP)
    python, loop = python_and_loop
    with mold_harness.Mold(directory, "main:app", python=python, loop=loop) as mold:
        worker = mold.serving_worker()
        worker.loop, worker.python = loop, python
        yield worker


@pytest.mark.parametrize("case", EXPECTED)
def test_asyncio_works_as_ever(worker, case):
    assert worker.json(path="/" + case) == EXPECTED[case]


def test_a_python_signal_handler_runs_at_once_while_the_loop_waits(worker):
    worker.json(path="/signals")  # after it, the wake-up descriptor must be in place again
    worker.json(path="/python_signal")
    sent = time.monotonic()
    os.kill(worker.pid, signal.SIGUSR2)
    mold_harness.wait_until(lambda: worker.json(path="/last_signal"), "the handler ran")
    assert time.monotonic() - sent < 1


def test_requests_run_through_the_task_factory_of_the_application(worker):
    assert worker.json(path="/factory") == "set"
    assert worker.json(path="/names")[0] == LOOP_TYPES[worker.loop]
    made = worker.json(path="/made")
    assert made[:1] == ["Request"] and "called" in made and "not called" not in made


def test_the_running_loop_is_the_one_that_was_asked_for(worker):
    name, running, current, selector = worker.json(path="/names")
    assert name == LOOP_TYPES[worker.loop] and running and current
    assert selector == (worker.loop != "uvloop")


def test_a_context_is_that_of_its_request_alone(worker):
    """In turn on one connection, and many at once."""
    connection = worker.connection()
    for _ in range(5):
        connection.request("GET", "/context")
        assert json.loads(connection.getresponse().read()) == EXPECTED["context"]
    connection.close()
    connections = [worker.raw(b"GET /context HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(20)]
    for connection in connections:
        assert connection.recv(65536).endswith(b'["untouched", "of a request"]')
        connection.close()


def test_no_application_takes_the_signals_of_the_supervisor(worker):
    assert worker.json(path="/steal") is True
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(worker.pid, number)
        assert worker.json(path="/stolen") == []
    told = [line for line in worker.mold.log().splitlines() if "handler is not used" in line]
    assert sorted(line.split("[warning] ")[1].split(":")[0] for line in told) == ["SIGHUP", "SIGINT",
                                                                             "SIGTERM"]


def test_asyncios_debug_mode_from_the_start(python_and_loop, tmp_path):
    python, loop = python_and_loop
    (tmp_path / "main.py").write_text(APP)
    environment = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"}
    with mold_harness.Mold(tmp_path, "main:app", python=python, loop=loop,
                           environment=environment) as mold:
        worker = mold.serving_worker()
        assert worker.json(path="/timers") == EXPECTED["timers"]
        assert worker.json(path="/executor") == EXPECTED["executor"]
        assert worker.json(path="/blocked") == "late"
        mold_harness.wait_until(lambda: re.search(r"Executing <.* took (0\.(1[2-9]|[2-9])|[1-9])", mold.output()),
                                "the warning about a callback that blocked")
        worker.drain()
        assert worker.wait() == 0
        assert "Traceback" not in mold.output() and "never" not in mold.output(), mold.output()


def test_timers_fire_while_requests_come_in(worker):
    """What a request schedules must not wait until the loop would have woken anyway."""
    connections = [worker.raw(b"GET /timers HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(20)]
    for _ in range(100):
        assert worker.json(path="/names")[1] is True
    for connection in connections:
        assert b"[[1, 2, 3], true]" in connection.recv(65536)
        connection.close()


def test_a_running_loop_that_a_handler_closes_goes_on(worker):
    assert worker.json(path="/close") == "Cannot close a running event loop"
    started = time.monotonic()
    for _ in range(5):
        assert worker.json(path="/names")[1] is True
    assert time.monotonic() - started < 1


def test_a_loop_that_is_run_inside_of_a_handler_serves_others_meanwhile(mold, python, tmp_path):
    """Which CPython's own loop cannot do."""
    (tmp_path / "main.py").write_text(APP)
    worker = mold(python=python).serving_worker()
    nested = [worker.raw(b"GET /nested HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(8)]
    for _ in range(20):
        assert worker.json(path="/names")[1] is True
    for connection in nested:
        connection.settimeout(10)
        assert b'"inner"' in connection.recv(65536)
        connection.close()


def test_an_idle_worker_uses_no_processor_time(worker):
    def used():
        with open(f"/proc/{worker.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    worker.json(path="/names")
    time.sleep(0.1)
    before = used()
    time.sleep(0.5)
    assert used() - before <= 1


def test_many_slow_requests_run_side_by_side(worker):
    connections = [worker.raw(b"GET /timeout HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(100)]
    started = time.monotonic()
    for connection in connections:
        assert b"timed out" in connection.recv(65536)
        connection.close()
    assert time.monotonic() - started < 2


FRAMEWORK = '''
import asyncio, contextlib
import anyio
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from pydantic import BaseModel

done = []

@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"started": "yes"}

app = FastAPI(lifespan=lifespan)

class Item(BaseModel):
    name: str

@app.middleware("http")
async def middleware(request, call_next):
    response = await call_next(request)
    response.headers["x-middleware"] = "1"
    return response

@app.get("/sync/{number}")
def sync(number: int, request: Request):
    return {"number": number}

@app.post("/item")
async def item(item: Item, tasks: BackgroundTasks):
    tasks.add_task(done.append, item.name)
    return item

@app.get("/done")
async def get_done():
    return done

@app.get("/stream")
async def stream():
    async def numbers():
        for n in range(3):
            await asyncio.sleep(0.001)
            yield str(n)
    return StreamingResponse(numbers())

@app.get("/endless")
async def endless():
    async def numbers():
        try:
            while True:
                await anyio.sleep(0.01)
                yield "x" * 1000
        finally:
            done.append("closed")
    return StreamingResponse(numbers())

@app.get("/group")
async def group():
    found = []
    async with anyio.create_task_group() as tasks:
        async def child(n):
            await anyio.sleep(0.001 * n)
            found.append(n)
        for n in range(3):
            tasks.start_soon(child, n)
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(10)
    try:
        with anyio.fail_after(0.01):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep, 10)
    except TimeoutError:
        found.append("failed after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep, 10)
        tasks.cancel_scope.cancel()
    thread = await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(asyncio.sleep, 0, "back"))
    return [found, scope.cancel_called, thread]

@app.get("/error")
async def error():
    raise ValueError("in the endpoint")
'''


@pytest.fixture(params=LOOPS_OF["3.11"], scope="module")
def framework(tmp_path_factory, request):
    directory = tmp_path_factory.mktemp("framework")
    (directory / "main.py").write_text(FRAMEWORK)
    with mold_harness.Mold(directory, "main:app", python="/usr/bin/python3", loop=request.param) as mold:
        yield mold.serving_worker()


def test_fastapi_with_anyio_middleware_threads_streams_and_background_tasks(framework):
    assert framework.json(path="/sync/7") == {"number": 7}
    headers = {"content-type": "application/json"}
    assert framework.json("POST", "/item", json.dumps({"name": "a"}), headers) == {"name": "a"}
    assert framework.request("POST", "/item", "{}", headers)[0] == 422
    mold_harness.wait_until(lambda: framework.json(path="/done") == ["a"], "background task")
    assert framework.request(path="/stream") == (200, b"012")
    assert framework.json(path="/group") == [[0, 1, 2, "failed after"], True, "back"]
    assert framework.request(path="/error")[0] == 500
    framework.mold.wait_for_log("ValueError: in the endpoint")


def test_a_stream_of_fastapi_ends_when_its_client_leaves_without_a_word_in_the_log(framework):
    before = framework.mold.log()
    connection = framework.raw(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    assert connection.recv(1000)
    connection.close()
    mold_harness.wait_until(lambda: "closed" in framework.json(path="/done"), "generator closed")
    mold_harness.wait_until(lambda: framework.counters()["in_flight"] == 0, "request ended")
    assert framework.mold.log() == before
