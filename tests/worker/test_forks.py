"""What the application forks is never a second worker: where it comes back to the host, it ends."""

import signal

import pytest

import mold_harness
from conftest import INTERPRETERS, LOOPS_OF

# What the parent makes of the child: wait() in which it ends by itself, killed() in which it does not.
COMMON = '''
import asyncio, os, signal, sys, time

def wait(child):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return str(os.waitstatus_to_exitcode(status))
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "it lives on"

def killed(child, number):
    os.kill(child, number)
    return wait(child)

def raises():
    raise LookupError("of the child")
'''

WSGI = COMMON + '''
ways = {
    "return": lambda: [b"of the child"], "raise": raises, "exit": lambda: sys.exit(3),
    "exit_none": lambda: sys.exit(), "exit_text": lambda: sys.exit("words of the child"),
    "print": lambda: sys.stdout.write("no end of a line") and [],
    "not_bytes": lambda: 1, "block": lambda: time.sleep(60), "_exit": lambda: os._exit(5),
}

class Closes:
    def __init__(self, status):
        self.items = iter([status.encode()])
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.items)
    def close(self):
        self.child = os.fork()
        if self.child == 0:
            sys.exit(4)
        print("close:", wait(self.child), flush=True)

def items(start_response):
    child = os.fork()
    if child == 0:
        yield b"of the child"
        sys.exit("goes on")
    yield wait(child).encode()

def app(environ, start_response):
    way = environ["PATH_INFO"][1:]
    if way == "pid":
        start_response("200 OK", [])
        return [str(os.getpid()).encode()]
    if way == "iterate":
        start_response("200 OK", [])
        return items(start_response)
    if way == "close":
        start_response("200 OK", [])
        return Closes("closed")
    child = os.fork()
    if child == 0:
        write = start_response("201 Created", [("x-of", "child")])
        if way == "write":
            write(b"of the child")
            sys.exit("goes on")
        if way == "read":
            environ["wsgi.input"].read()
            sys.exit("goes on")
        return ways[way]()
    status = killed(child, signal.SIGTERM) if way == "block" else wait(child)
    start_response("200 OK", [])
    return [status.encode()]
'''

ASGI = COMMON + '''
async def answers(scope, receive, send):
    await send({"type": "http.response.start", "status": 201})
    sys.exit("goes on")
async def reads(scope, receive, send):
    await receive()
    sys.exit("goes on")
async def returns(scope, receive, send):
    pass
async def fails(scope, receive, send):
    raises()
async def exits(scope, receive, send):
    sys.exit(3)
async def waits(scope, receive, send):
    await asyncio.sleep(0)
    sys.exit("goes on")
async def blocks(scope, receive, send):
    time.sleep(60)
ways = {"return": returns, "raise": fails, "exit": exits, "send": answers, "receive": reads,
        "await": waits, "block": blocks}

async def of_a_task():
    child = os.fork()
    if child == 0:
        sys.exit(6)
    return wait(child)

def of_a_callback(told):
    child = os.fork()
    if child == 0:
        sys.exit(7)
    told.set_result(wait(child))

async def status_of(way, scope, receive, send):
    if way == "pid":
        return str(os.getpid())
    if way == "task":
        return await asyncio.create_task(of_a_task())
    if way == "callback":
        loop = asyncio.get_running_loop()
        told = loop.create_future()
        loop.call_soon(of_a_callback, told)
        return await told
    child = os.fork()
    if child == 0:
        await ways[way](scope, receive, send)
        return None
    return killed(child, signal.SIGTERM) if way == "block" else wait(child)

async def app(scope, receive, send):
    assert scope["type"] == "http"
    status = await status_of(scope["path"][1:], scope, receive, send)
    if status is None:
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": status.encode()})
'''

TERMINATED = str(-signal.SIGTERM)
WSGI_ENDS = {"return": "0", "raise": "1", "exit": "3", "exit_none": "0", "exit_text": "1", "print": "0",
             "not_bytes": "0", "block": TERMINATED, "_exit": "5", "write": "0", "read": "0",
             "iterate": "0"}
ASGI_ENDS = {"return": "0", "raise": "1", "exit": "3", "send": "0", "receive": "0", "await": "0",
             "block": TERMINATED, "task": "6", "callback": "7"}


@pytest.fixture(params=[(python, threads) for python in sorted(INTERPRETERS) for threads in (1, 4)],
                ids=lambda pair: f"{pair[0]}-threads-{pair[1]}", scope="module")
def wsgi(request, tmp_path_factory):
    version, threads = request.param
    directory = tmp_path_factory.mktemp("wsgi")
    (directory / "main.py").write_text(WSGI)
    with mold_harness.Mold(directory, "main:app", python=INTERPRETERS[version], threads=threads,
                           access_log=str(directory / "access.log")) as mold:
        yield mold.serving_worker()


@pytest.fixture(params=[(version, loop) for version in sorted(INTERPRETERS) for loop in LOOPS_OF[version]],
                ids="-".join, scope="module")
def asgi(request, tmp_path_factory):
    version, loop = request.param
    directory = tmp_path_factory.mktemp("asgi")
    (directory / "main.py").write_text(ASGI)
    with mold_harness.Mold(directory, "main:app", python=INTERPRETERS[version], loop=loop,
                           access_log=str(directory / "access.log")) as mold:
        yield mold.serving_worker()


def answer_to(worker, way):
    """The whole connection's, with the request's body where there is one to read."""
    with worker.raw(f"POST /{way} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
                    .encode()) as connection:
        return mold_harness.read_all(connection)


def ends_with(worker, way, status):
    """The child's exit status is the parent's one answer, and the parent serves on, as it was."""
    logged, counted = worker.mold.log(), sum(worker.counters()["requests"])
    answer = answer_to(worker, way)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert answer.count(b"HTTP/1.1 ") == 1 and b"of the child" not in answer
    assert status.encode() in answer.partition(b"\r\n\r\n")[2].split(b"\r\n"), answer
    assert worker.request(path="/pid") == (200, str(worker.pid).encode())
    mold_harness.wait_until(lambda: idle(worker.counters()), "no request in flight, no thread that runs")
    assert sum(worker.counters()["requests"]) == counted + 2
    assert worker.mold.log() == logged


def idle(counters):
    return counters["threads_running"] == counters["in_flight"] == 0


@pytest.mark.parametrize("way", WSGI_ENDS)
def test_a_child_that_comes_back_from_a_wsgi_application_ends(wsgi, way):
    ends_with(wsgi, way, WSGI_ENDS[way])


def test_one_that_comes_back_from_close_ends(wsgi):
    ends_with(wsgi, "close", "closed")
    mold_harness.wait_until(lambda: "close: 4\n" in wsgi.mold.output(), "the child's exit status")


@pytest.mark.parametrize("way", ASGI_ENDS)
def test_a_child_that_comes_back_from_an_asgi_application_ends(asgi, way):
    ends_with(asgi, way, ASGI_ENDS[way])


def test_what_it_has_to_say_is_on_standard_output_and_standard_error(wsgi):
    before = len(wsgi.mold.output())
    for way in ("raise", "exit_text", "print"):
        assert b" 200 " in answer_to(wsgi, way)
    said = wsgi.mold.output()[before:]
    assert said.startswith("Traceback (most recent call last):\n")
    assert said.endswith("LookupError: of the child\nwords of the child\nno end of a line")
    assert "mgr_host" not in said


def test_a_request_is_one_line_of_the_access_log(wsgi):
    def lines():
        with open(wsgi.mold.access_log_path) as file:
            return [line for line in file if "/exit_none" in line]
    before = len(lines())
    answer_to(wsgi, "exit_none")
    mold_harness.wait_until(lambda: len(lines()) > before, "its line")
    wsgi.request(path="/pid")
    assert len(lines()) == before + 1


AT_OTHER_TIMES = COMMON + '''
def fork(where):
    child = os.fork()
    if child == 0:
        sys.exit(8)
    print(where, wait(child), flush=True)

fork("import")
def make():
    fork("factory")
    return app
def ready(about):
    fork("hook")
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        fork("lifespan")
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
'''


@pytest.mark.parametrize("preload", [True, False], ids=["in-the-mold", "in-the-worker"])
def test_one_that_comes_back_from_loading_hooks_and_lifespan_ends(app, mold, preload):
    app(AT_OTHER_TIMES)
    running = mold("main:make()", load=preload, hooks={"worker_ready": "main:ready"})
    worker = running.serving_worker()
    assert worker.request() == (200, str(worker.pid).encode())
    assert sorted(running.output().splitlines()) == ["factory 8", "hook 8", "import 8", "lifespan 8"]


def test_subprocess_with_code_of_its_own_in_the_child_works(app, mold):
    app('''
import os, subprocess
def app(environ, start_response):
    done = subprocess.run(["sh", "-c", "pwd; exit 5"], preexec_fn=lambda: os.chdir("/"), capture_output=True)
    start_response("200 OK", [])
    return [done.stdout, str(done.returncode).encode()]
''')
    assert mold(threads=4).serving_worker().request() == (200, b"/\n5")


PROCESSES = '''
import concurrent.futures, multiprocessing, os
def square(number):
    return number * number
def app(environ, start_response):
    fork = multiprocessing.get_context("fork")
    with fork.Pool(2) as pool:
        found = pool.map(square, range(3))
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as executor:
        found.append(executor.submit(square, 3).result())
    process = fork.Process(target=os._exit, args=(9,))
    process.start()
    process.join(10)
    start_response("200 OK", [])
    return [repr((found, process.exitcode)).encode()]
'''


@pytest.mark.parametrize("threads", [1, 4])
def test_processes_of_the_standard_library_end_by_their_own_rules(app, mold, threads):
    app(PROCESSES)
    assert mold(threads=threads).serving_worker().request() == (200, b"([0, 1, 4, 9], 9)")
