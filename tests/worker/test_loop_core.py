"""The part of asyncio's loop that is our own: it must behave as CPython's, and fall into none of
the traps that lie between libuv, epoll, signals, threads and the GIL."""

import os
import signal
import statistics
import time

import pytest

import mold_harness

APP = '''
import asyncio, contextvars, fcntl, gc, json, os, signal, socket, sys, threading, time, weakref

variable = contextvars.ContextVar("variable", default="none")
kept = {}

async def answer(send, value):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})

def attributes(handle):
    """All that can be seen of a handle, with what differs by nature left out."""
    names = ["_callback", "_args", "_cancelled", "_source_traceback", "_repr"]
    return [repr(handle)] + [str(getattr(handle, name)) for name in names] + [handle.cancelled()]

async def handles(loop):
    """What a handle shows, ours and asyncio's, before and after cancel()."""
    seen = []
    for make in (loop.call_soon, lambda *args: asyncio.Handle(args[0], args[1:], loop)):
        handle = make(print, "never", 2)
        seen.append(attributes(handle))
        handle.cancel()
        handle.cancel()
        seen[-1] += attributes(handle)
    printed = seen[0][0].startswith("<Handle print(")
    return [type(loop.call_soon(int)).__module__, seen[0] == seen[1], printed]

async def changed(loop):
    """Handles whose attributes somebody has changed fail as in CPython, and nothing else does."""
    heard = []
    loop.set_exception_handler(lambda _, context: heard.append(repr(context["exception"])))
    for change in (lambda h: delattr(h, "_args"), lambda h: setattr(h, "_callback", None),
                   lambda h: setattr(h, "_args", [3]), lambda h: delattr(h, "_context")):
        change(loop.call_soon(heard.append, "unchanged"))
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    return [len(heard), 3 in heard, "unchanged" in heard]

async def contexts(loop):
    got = []
    def see(*args):
        got.append((variable.get(), *args))
    other = contextvars.copy_context()
    other.run(variable.set, "other")
    variable.set("own")
    handle = loop.call_soon(see, context=other)
    loop.call_soon(see, 1)
    loop.call_soon(see, 1, 2, context=other)
    loop.call_soon(see, 1, 2, 3, context=None)
    loop.call_soon(variable.set, "lost")
    loop.call_soon_threadsafe(see, "safe", context=other)
    await asyncio.sleep(0)
    return [got, variable.get(), handle._context is other,
            not hasattr(asyncio.Handle, "get_context") or handle.get_context() is other]

async def order(loop):
    """First in, first out; what a callback schedules runs in the next turn."""
    got, done = [], loop.create_future()
    def first():
        got.append("first")
        loop.call_soon(got.append, "nested")
        loop.call_soon(done.set_result, None)
    loop.call_soon(first)
    cancelled = loop.call_soon(got.append, "cancelled")
    for n in range(5):
        loop.call_soon(got.append, n)
    loop.call_soon_threadsafe(got.append, "safe")
    cancelled.cancel()
    await done
    return got

async def misuse(loop):
    got = []
    for call in (lambda: loop.call_soon(), lambda: loop.call_soon(int, key=1),
                 lambda: loop.call_soon_threadsafe(int, context=None, key=1)):
        try:
            call()
        except TypeError as error:
            got.append(type(error).__name__)
    return got

def raising(error):
    raise error

async def exceptions(loop):
    """The exception handler hears what Handle._run() tells it."""
    heard = []
    loop.set_exception_handler(lambda _, context: heard.append(context))
    ours = loop.call_soon(raising, ValueError("ours"))
    loop.call_soon(heard.append, "goes on")
    await asyncio.sleep(0)
    asyncio.Handle(raising, (ValueError("ours"),), loop)._run()
    loop.set_exception_handler(lambda *_: raising(ValueError("of the handler")))
    loop.call_soon(raising, ValueError("handler fails as well"))
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    mine, _, theirs = heard
    return [mine["message"] == theirs["message"], sorted(mine) == sorted(theirs), heard[1],
            mine["handle"] is ours, repr(mine["exception"])]

async def leave(loop):
    loop.call_soon(raising, SystemExit(7))
    await asyncio.sleep(1)

async def memory(loop):
    """Handles die when they have run, and so do cycles through them."""
    class Owner:
        def __init__(self):
            self.handle = loop.call_soon(self.called)
        def called(self):
            pass
    owner = Owner()
    references = [weakref.ref(owner), weakref.ref(owner.handle), weakref.ref(loop.call_soon(int))]
    del owner
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    dead = references[2]() is None
    gc.collect()
    before = sys.getrefcount(variable), sys.getrefcount(raising)
    for _ in range(1000):
        loop.call_soon(variable.get, raising)
        loop.call_soon_threadsafe(variable.get, raising).cancel()
        await asyncio.sleep(0)
    after = sys.getrefcount(variable), sys.getrefcount(raising)
    return [dead, [reference() for reference in references], before == after]

async def timers(loop):
    """Cancelled timers are removed, whether few or many, and the others fire in order."""
    got = []
    for n in range(20):
        loop.call_later(0.001 * n, got.append, n)
    cancelled = [loop.call_later(100 + n, got.append, "cancelled") for n in range(300)]
    for handle in cancelled:
        handle.cancel()
    first = loop.call_later(0.0001, got.append, "first")
    first.cancel()
    await asyncio.sleep(0.05)
    left = len([timer for timer in loop._scheduled if timer._cancelled])
    return [got == list(range(20)), left, loop._timer_cancelled_count, first._scheduled]

async def nonblocking(loop):
    """A descriptor that is watched keeps its mode."""
    reading, writing = os.pipe()
    before = fcntl.fcntl(reading, fcntl.F_GETFL)
    got = loop.create_future()
    loop.add_reader(reading, lambda: got.done() or got.set_result(os.read(reading, 10)))
    os.write(writing, b"data")
    value = await got
    after = fcntl.fcntl(reading, fcntl.F_GETFL)
    loop.remove_reader(reading)
    os.close(reading), os.close(writing)
    return [value.decode(), before == after, bool(after & os.O_NONBLOCK)]

async def reused(loop):
    """A descriptor that was closed while watched, and its number used again by another."""
    for _ in range(50):
        ours, theirs = socket.socketpair()
        loop.add_reader(ours, lambda: None)
        number = ours.fileno()
        ours.close(); theirs.close()
        await asyncio.sleep(0)
        ours, theirs = socket.socketpair()
        got = loop.create_future()
        loop.remove_reader(number)
        loop.add_reader(ours, lambda: got.done() or got.set_result(ours.recv(10)))
        theirs.send(b"new")
        assert await asyncio.wait_for(got, 5) == b"new"
        loop.remove_reader(ours)
        ours.close(); theirs.close()
    return "alive"

async def watch_signals(loop):
    """The handler tells the time in a file: to ask the worker by a request would wake it."""
    def told(*_):
        with open("signals", "a") as file:
            print(time.monotonic(), file=file)
    signal.signal(signal.SIGUSR1, told)

async def thread_wakes(loop):
    """Delays between a thread's call and its run, each while the loop waits for nothing else."""
    delays = []
    for _ in range(40):
        future = loop.create_future()
        def call():
            time.sleep(0.002)
            loop.call_soon_threadsafe(future.set_result, time.monotonic())
        thread = threading.Thread(target=call)
        thread.start()
        delays.append(-(await asyncio.wait_for(future, 5)) + time.monotonic())
        thread.join()
    return delays

async def busy_wakes(loop):
    """System calls that write, made by a thread that queues callbacks while the loop runs one."""
    def writes():
        with open("/proc/self/io") as file:
            return int(dict(line.split(": ") for line in file)["syscw"])
    got = []
    def call():
        for n in range(1000):
            loop.call_soon_threadsafe(got.append, n)
    before = writes()
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    made = writes() - before
    await asyncio.sleep(0)
    return [made, got == list(range(1000))]

async def stress(loop):
    """Threads switch as often as they can: nothing is lost, and every thread's order is kept."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(2e-6)
    got, done = {n: [] for n in range(4)}, loop.create_future()
    def call(n):
        for i in range(1500):
            loop.call_soon_threadsafe(got[n].append, i)
            if i % 100 == 0:
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(30)
    threads = [threading.Thread(target=call, args=(n,)) for n in got]
    try:
        for thread in threads:
            thread.start()
        for _ in range(100):
            assert await loop.run_in_executor(None, abs, -1) == 1
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
    finally:
        sys.setswitchinterval(interval)
    return all(order == list(range(1500)) for order in got.values())

async def debug(loop):
    """Debug mode comes and goes while callbacks of both kinds are queued."""
    got, kinds = [], []
    kinds.append(type(loop.call_soon(got.append, 1)).__module__)
    loop.set_debug(True)
    handle = loop.call_soon(got.append, 2)
    kinds.append(type(handle).__module__)
    traced = bool(handle._source_traceback)
    def elsewhere():
        try:
            loop.call_soon(got.append, "not from another thread")
        except RuntimeError as error:
            return "Non-thread-safe" in str(error)
    refused = await loop.run_in_executor(None, elsewhere)
    kinds.append(loop.get_debug())
    loop.call_soon(got.append, 3)
    loop.set_debug(False)
    kinds.append(type(loop.call_soon(got.append, 4)).__module__)
    kinds.append(loop.get_debug())
    await asyncio.sleep(0)
    return [got, kinds, traced, refused]

async def reentrant(loop):
    """The loop runs inside of a callback that it runs, three deep, callbacks of its own queued."""
    got = []
    def dive(depth):
        got.append(depth)
        loop.call_soon(got.append, f"queued at {depth}")
        if depth < 3:
            loop.call_soon(dive, depth + 1)
        while f"queued at {min(depth + 1, 3)}" not in got:
            loop._run_once()
    this = asyncio.current_task()
    asyncio.tasks._leave_task(loop, this)
    dive(1)
    asyncio.tasks._enter_task(loop, this)
    return got

async def patched(loop):
    """A library puts another _run_once() in the class, as nest_asyncio does."""
    turns = []
    def run_once(self):
        turns.append(len(self._ready))
        super(type(loop), self)._run_once()
    original = type(loop)._run_once
    type(loop)._run_once = run_once
    try:
        await asyncio.sleep(0.01)
        value = await loop.run_in_executor(None, abs, -2)
    finally:
        type(loop)._run_once = original
    return [len(turns) > 1, value]

async def registered(loop):
    """all_tasks() knows every task while it lives, also those that end while it is iterated."""
    async def wait(event):
        await event.wait()
    event = asyncio.Event()
    tasks = [asyncio.create_task(wait(event)) for _ in range(10)]
    await asyncio.sleep(0)
    known = asyncio.all_tasks()
    found = [all(task in known for task in tasks), asyncio.current_task() in known]
    old = sys.version_info < (3, 12)
    weak = asyncio.tasks._all_tasks if old else asyncio.tasks._scheduled_tasks
    del known
    event.set()
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
    before = len(weak)
    iterated = iter(weak)
    first = next(iterated)
    del first
    tasks.clear()
    gc.collect()
    pending = len(weak._pending_removals)
    new = asyncio.create_task(asyncio.sleep(0))
    iterated.close()
    await new
    del new
    return found + [pending > 0, len(weak._pending_removals), before - len(weak) >= 9]

async def kind(loop):
    return [type(loop.call_soon(int)).__module__, type(loop).__name__]

async def app(scope, receive, send):
    assert scope["type"] == "http"
    case = globals()[scope["path"][1:]]
    await answer(send, await case(asyncio.get_running_loop()))
'''

EXPECTED = {
    "handles": ["_mgr_core", True, True],
    "changed": [4, True, False],
    "contexts": [[["other"], ["own", 1], ["other", 1, 2], ["own", 1, 2, 3], ["other", "safe"]],
                 "own", True, True],
    "order": ["first", 0, 1, 2, 3, 4, "safe", "nested"],
    "misuse": ["TypeError", "TypeError", "TypeError"],
    "exceptions": [True, True, "goes on", True, "ValueError('ours')"],
    "memory": [True, [None, None, None], True],
    "timers": [True, 0, 0, False],
    "nonblocking": ["data", True, False],
    "reused": "alive",
    "busy_wakes": [0, True],
    "debug": [[1, 2, 3, 4], ["_mgr_core", "asyncio.events", True, "_mgr_core", False], True, True],
    "reentrant": [1, "queued at 1", 2, "queued at 2", 3, "queued at 3"],
    "patched": [True, 2],
    "registered": [True, True, True, 0, True],
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    made = tmp_path_factory.mktemp("core")
    (made / "main.py").write_text(APP)
    return made


@pytest.fixture(scope="module")
def worker(python, directory):
    with mold_harness.Mold(directory, "main:app", python=python) as mold:
        yield mold.serving_worker()


@pytest.mark.parametrize("case", EXPECTED)
def test_the_loop_does_as_that_of_cpython(worker, case):
    assert worker.json(path="/" + case) == EXPECTED[case], worker.mold.log()


def test_a_handler_of_python_runs_within_50_milliseconds_of_its_signal(worker, directory):
    told = directory / "signals"
    told.write_text("")
    worker.json(path="/watch_signals")
    delays = []
    for number in range(20):
        sent = time.monotonic()
        os.kill(worker.pid, signal.SIGUSR1)
        mold_harness.wait_until(lambda: told.read_text().count("\n") > number, "the handler ran")
        delays.append(float(told.read_text().split()[-1]) - sent)
    assert statistics.median(delays) < 0.05, delays


def test_a_thread_wakes_the_loop_within_5_milliseconds(worker):
    delays = worker.json(path="/thread_wakes")
    assert len(delays) == 40 and statistics.median(delays) < 0.005, delays


def test_nothing_is_lost_where_threads_switch_as_often_as_they_can(worker):
    stressed = worker.raw(b"GET /stress HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(200):
        assert worker.json(path="/kind") == ["_mgr_core", "MgrLoop"]
    stressed.settimeout(60)
    assert stressed.recv(65536).endswith(b"true")
    stressed.close()


def test_system_exit_in_a_callback_ends_the_worker_with_its_status(python, directory):
    with mold_harness.Mold(directory, "main:app", python=python) as mold:
        worker = mold.serving_worker()
        worker.raw(b"GET /leave HTTP/1.1\r\nHost: a\r\n\r\n").close()
        assert worker.wait() == 7, mold.output()


def test_a_cpython_that_is_not_in_the_table_runs_its_own_loop_after_one_warning(python, tmp_path):
    (tmp_path / "main.py").write_text(
        "from mgr_host import loop\nloop.TESTED.clear()\n" + APP)
    environment = {"PYTHONPATH": os.path.join(os.path.dirname(mold_harness.PROGRAM), "python")}
    with mold_harness.Mold(tmp_path, "main:app", python=python, environment=environment) as mold:
        worker = mold.serving_worker()
        assert worker.json(path="/kind") == ["asyncio.events", "MgrLoop"]
        for case in ("contexts", "order", "timers", "nonblocking"):
            assert worker.json(path="/" + case) == EXPECTED[case]
        assert statistics.median(worker.json(path="/thread_wakes")) < 0.05
        assert mold.log().count("asyncio's own loop runs, which is slower") == 1
