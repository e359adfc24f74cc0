"""A mold and its workers as the supervisor sees them: forking, serving, holding, draining, ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

import mold_harness

HELLO = '''
import os
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
'''
SLOW = '''
import asyncio
async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/block":
        import time
        time.sleep(1000)
    await asyncio.sleep(float(scope["path"][1:]))
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"slept"})
'''


def test_a_mold_loads_and_forks_workers_of_the_supervisor(app, mold, python):
    app(HELLO)
    running = mold(python=python)
    loaded = running.loaded()
    version = subprocess.run([python, "-c", "import platform; print(platform.python_version())"],
                             capture_output=True, text=True).stdout.strip()
    assert (loaded["python"], loaded["interface"], loaded["left_open"]) == (version, "asgi", [])
    pids = set()
    for slot in range(3):
        worker = running.fork(slot)
        worker.ready()
        worker.listen()
        pids.add(int(worker.request()[1]))
        with open(f"/proc/{worker.pid}/stat") as file:
            assert int(file.read().rsplit(")", 1)[1].split()[1]) == os.getpid()
        assert os.getpgid(worker.pid) == running.pid
    assert pids == {worker.pid for worker in running.workers}


def test_the_supervisors_descriptors_do_not_reach_programs_of_the_application(app, mold):
    app('''
import os, subprocess
async def app(scope, receive, send):
    assert scope["type"] == "http"
    out = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True,
                         close_fds=False).stdout
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": out.encode()})
''')
    worker = mold().serving_worker()
    listing = worker.request()[1].decode()
    for kind in ("socket:", "memfd:", "eventpoll", "eventfd", "mold.log"):
        assert kind not in listing, listing


def test_a_worker_accepts_only_after_listen_and_holds_without_closing(app, mold):
    app(HELLO)
    running = mold()
    worker = running.ready_worker()
    listener = socket.create_server(("127.0.0.1", 0))
    worker.listen(identity=7, listener=listener)
    kept = worker.connection()
    kept.request("GET", "/")
    assert kept.getresponse().read() == str(worker.pid).encode()
    worker.channel.send("hold")
    worker.receive("stopped_accepting")
    waiting = worker.raw(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    kept.request("GET", "/")
    assert kept.getresponse().status == 200
    waiting.settimeout(0.2)
    with pytest.raises(TimeoutError):
        waiting.recv(1)
    worker.listen(identity=7, listener=listener)
    waiting.settimeout(mold_harness.TIMEOUT)
    assert waiting.recv(65536).startswith(b"HTTP/1.1 200")


def test_release_stops_accepting_on_the_sockets_it_names(app, mold):
    app(HELLO)
    worker = mold().ready_worker()
    first, second = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    worker.listen(identity=1, listener=first)
    assert worker.request()[0] == 200
    worker.listen(identity=2, listener=second)
    assert worker.request()[0] == 200
    worker.channel.send("release", ids=[1])
    assert worker.request()[0] == 200  # so the order before it was obeyed
    connection = socket.create_connection(first.getsockname())
    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    first.close()


def test_a_drain_finishes_requests_and_idle_connections_and_takes_what_is_queued(app, mold):
    app(SLOW)
    running = mold(keep_alive="500ms")
    worker = running.serving_worker()
    idle = worker.connection()
    idle.request("GET", "/0")
    assert idle.getresponse().read() == b"slept"
    busy = worker.raw(b"GET /0.3 HTTP/1.1\r\nHost: a\r\n\r\n")
    mold_harness.wait_until(lambda: worker.counters()["in_flight"] == 1, "in flight")
    os.kill(worker.pid, signal.SIGSTOP)
    queued = worker.raw(b"GET /0 HTTP/1.1\r\nHost: a\r\n\r\n")
    worker.drain(last=True)
    os.kill(worker.pid, signal.SIGCONT)
    worker.receive("stopped_accepting")
    idle.request("GET", "/0")
    response = idle.getresponse()
    assert response.read() == b"slept" and response.headers["connection"] == "close"
    assert b"slept" in queued.recv(65536)
    assert b"slept" in busy.recv(65536)
    assert worker.wait() == 0


def test_a_drain_cuts_at_its_deadline_and_a_later_one_may_shorten_it(app, mold):
    app(SLOW)
    running = mold()
    worker = running.serving_worker()
    connection = worker.raw(b"GET /1000 HTTP/1.1\r\nHost: a\r\n\r\n")
    mold_harness.wait_until(lambda: worker.counters()["in_flight"] == 1, "in flight")
    started = time.monotonic()
    worker.drain(timeout_ms=60_000)
    worker.receive("stopped_accepting")
    worker.drain(timeout_ms=200)
    assert worker.wait() == 0
    assert 0.15 < time.monotonic() - started < 5
    assert b"200 OK" not in connection.recv(65536)


def test_the_scoreboard_says_since_when_a_callback_runs_and_how_busy_the_loop_was(app, mold):
    app(SLOW)
    worker = mold().serving_worker()
    mold_harness.wait_until(lambda: worker.counters()["running_since_ns"] == 0, "waits")
    idle = worker.counters()["busy_ns"]
    time.sleep(0.2)
    assert worker.counters()["busy_ns"] - idle < 50_000_000
    worker.raw(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")

    def runs_for_100_ms():
        since = worker.counters()["running_since_ns"]
        return since != 0 and 100_000_000 <= time.monotonic_ns() - since < 10_000_000_000

    mold_harness.wait_until(runs_for_100_ms, "runs")
    since = worker.counters()["running_since_ns"]
    time.sleep(0.1)
    assert worker.counters()["running_since_ns"] == since


def test_quit_ends_a_worker_at_once(app, mold):
    app(SLOW)
    running = mold()
    worker = running.serving_worker()
    worker.raw(b"GET /1000 HTTP/1.1\r\nHost: a\r\n\r\n")
    mold_harness.wait_until(lambda: worker.counters()["in_flight"] == 1, "in flight")
    started = time.monotonic()
    worker.channel.send("quit")
    assert worker.wait() == 0
    assert time.monotonic() - started < 2
    assert "Traceback" not in running.output()


def test_group_signals_are_the_supervisors_until_it_is_gone(app, mold):
    app(HELLO)
    running = mold()
    worker = running.serving_worker()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(running.pid, number)
        os.kill(worker.pid, number)
    assert worker.request()[0] == 200
    assert running.fork(1).ready()


def test_programs_of_the_application_can_be_terminated(app, mold):
    app('''
import asyncio, multiprocessing, time
async def app(scope, receive, send):
    assert scope["type"] == "http"
    program = await asyncio.create_subprocess_exec("sleep", "1000")
    program.terminate()
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    process.start()
    process.terminate()
    process.join(10)
    body = repr((await program.wait(), process.exitcode)).encode()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})
''')
    assert mold().serving_worker().request() == (200, b"(-15, -15)")


def test_a_worker_whose_supervisor_is_gone_finishes_and_leaves(app, mold):
    app(SLOW)
    running = mold()
    worker = running.serving_worker()
    busy = worker.raw(b"GET /0.3 HTTP/1.1\r\nHost: a\r\n\r\n")
    mold_harness.wait_until(lambda: worker.counters()["in_flight"] == 1, "in flight")
    worker.channel.close()
    assert b"slept" in busy.recv(65536)
    assert worker.wait() == 0
    assert "the supervisor is gone" in running.log()


def test_a_mold_whose_supervisor_is_gone_ends_and_its_workers_serve_on(app, mold):
    app(HELLO)
    running = mold()
    worker = running.serving_worker()
    running.channel.close()
    assert running.wait() == 0
    assert worker.request()[0] == 200


SUPERVISOR_THAT_DIES = '''
import os, sys
sys.path.insert(0, {tests!r})
import mold_harness
mold_harness.become_subreaper()
mold = mold_harness.Mold({directory!r}, "main:app", graceful_timeout="300ms")
worker = mold.serving_worker()
worker.raw(b"GET /block HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
mold_harness.wait_until(lambda: worker.counters()["in_flight"] == 1, "in flight")
print(mold.pid, worker.pid, flush=True)
os._exit(0)
'''


def test_a_blocked_worker_is_killed_after_its_supervisor_died(app, tmp_path):
    app(SLOW)
    script = SUPERVISOR_THAT_DIES.format(tests=os.path.dirname(__file__), directory=str(tmp_path))
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    mold_pid, worker_pid = map(int, out.stdout.split())
    started = time.monotonic()
    assert mold_harness.wait_for(worker_pid) == -signal.SIGKILL
    assert 0.2 < time.monotonic() - started < 2.2  # graceful_timeout and a second
    assert mold_harness.wait_for(mold_pid) in (0, -signal.SIGKILL)


def test_what_the_application_forks_keeps_no_socket_of_the_worker(app, mold):
    app('''
import os, time
async def app(scope, receive, send):
    assert scope["type"] == "http"
    pid = os.fork()
    if pid == 0:
        time.sleep(1000)
        os._exit(0)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(pid).encode()})
''')
    running = mold()
    worker = running.serving_worker()
    connection = worker.raw(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = b""
    while part := connection.recv(65536):  # ends although the child lives
        answer += part
    child = int(answer.split()[-2]) if answer.endswith(b"0\r\n\r\n") else int(answer.split()[-1])
    try:
        sockets = {f"socket:[{line.split()[9]}]" for line in open(f"/proc/{child}/net/tcp")
                   if line.split()[1].endswith(f":{worker.port:04X}")}

        def kept():
            names = os.listdir(f"/proc/{child}/fd")
            try:
                return sockets & {os.readlink(f"/proc/{child}/fd/{name}") for name in names}
            except FileNotFoundError:  # closed between the two calls
                return sockets
        # The answer is the parent's: the child may not have run yet, and lets go when it does.
        deadline = time.monotonic() + 10
        while kept():
            assert time.monotonic() < deadline, kept()
            time.sleep(0.01)
        worker.drain()
        assert worker.wait() == 0
    finally:
        os.kill(child, signal.SIGKILL)


def test_atexit_handlers_run_and_a_stuck_thread_does_not_hold_the_worker(app, mold):
    app('''
import atexit, threading, time
@atexit.register
def bye():
    print("bye", flush=True)
async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/stuck":
        threading.Thread(target=time.sleep, args=(1000,), name="stuck").start()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})
''')
    running = mold()
    worker = running.serving_worker()
    worker.drain()
    assert worker.wait() == 0
    assert running.output() == "bye\n"
    running.fork(1)
    worker = running.workers[-1]
    worker.ready()
    worker.listen()
    worker.request(path="/stuck")
    worker.drain(timeout_ms=300)
    assert worker.wait() == 0
    assert "ended without waiting for what still runs: stuck\n" in running.log()


def test_standard_output_is_not_written_twice_after_a_fork(app, mold):
    app("print('loaded', end='')\n" + HELLO)
    running = mold()
    running.loaded()
    for slot in range(2):
        worker = running.fork(slot)
        worker.ready()
        worker.drain()
        assert worker.wait() == 0
    running.channel.close()
    running.wait()
    assert running.output() == "loaded"


def test_random_numbers_differ_between_workers(app, mold):
    app('''
import random, os, uuid, tempfile
random.random()
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(random.random()).encode()})
''')
    running = mold()
    running.loaded()
    numbers = set()
    for slot in range(3):
        worker = running.fork(slot)
        worker.ready()
        worker.listen()
        numbers.add(worker.request()[1])
    assert len(numbers) == 3


def test_the_order_may_be_to_look_and_not_to_load(app, mold):
    app("raise RuntimeError('not to be imported')\n")
    loaded = mold(load=False).loaded()
    assert (loaded["interface"], loaded["left_open"], loaded["duration_ms"]) == ("", [], 0)


def test_the_access_log_is_written_only_where_there_is_one(app, mold, tmp_path):
    app(HELLO)
    running = mold(access_log=str(tmp_path / "access.log"))
    assert running.serving_worker().request(path="/with")[0] == 200
    mold_harness.wait_until(lambda: "GET /with" in (tmp_path / "access.log").read_text(), "a line")
    running = mold()
    running.loaded()
    # Without one, number 7 belongs to whoever opened it first.
    worker = running.fork()
    worker.ready()
    worker.listen()
    assert worker.request(path="/without")[0] == 200
    for fd in os.listdir(f"/proc/{worker.pid}/fd"):
        assert not os.readlink(f"/proc/{worker.pid}/fd/{fd}").endswith("/access.log")
    assert "/without" not in (tmp_path / "access.log").read_text() + running.output() + running.log()


def test_a_message_of_any_text_is_logged(app, mold):
    app("async def app(scope, receive, send):\n"
        "  assert scope['type'] == 'http', scope['type']\n"
        "  raise ValueError('zero \\0 surrogate \\udcff end')\n")
    running = mold()
    worker = running.serving_worker()
    assert worker.request()[0] == 500
    running.wait_for_log("zero \\x00 surrogate \\udcff end")


def test_records_are_json_where_the_log_is(app, mold):
    app(HELLO)
    running = mold(log_format="json")
    running.serving_worker()
    lines = running.log().splitlines()
    assert [json.loads(line)["who"] for line in lines] == ["worker 0"]
    assert "does not support lifespan" in lines[0]
