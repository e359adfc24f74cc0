"""`mgr stack`: what a worker executes, while its loop turns and while it is blocked."""

import contextlib
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from mgr_harness import APPS, Load, no_loss, read_response, wait_for

LIBRARIES = Path(os.environ["BUILD_DIR"]) / "tests/e2e/native"


def line_of(text):
    """`File "…/main.py", line N` of the only line of stuck.py with this text."""
    lines = (APPS / "stuck.py").read_text().splitlines()
    numbers = [number for number, line in enumerate(lines, 1) if text in line]
    assert len(numbers) == 1, (text, numbers)
    return f'main.py", line {numbers[0]} in '


def stack_with(mgr, words):
    """Once these words are in it: the request has come so far."""
    text = wait_for(lambda: words in (shown := mgr.must("stack", 0)) and shown, f"{words} in the stack")
    print(text)
    return text


def stack(mgr, slot=0):
    text = mgr.must("stack", slot, seconds=30)
    print(text)
    return text


@contextlib.contextmanager
def request(mgr, path):
    """A request under way; afterwards it may be unanswered."""
    with mgr.connect(60) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 1, "in flight")
        yield connection


@contextlib.contextmanager
def stuck(mgr, path):
    """A request that is stuck in the worker until the end of the block; then it is answered."""
    fifo = mgr.directory / "let-go"
    os.mkfifo(fifo)
    with mgr.connect(60) as connection:
        connection.sendall(f"GET {path}?{fifo} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with open(fifo, "wb") as release:  # waits for the reader
            yield
            release.write(b"x")
        assert read_response(connection).status == 200


def threads_and_tasks(text):
    """The part that faulthandler wrote, and Python's own."""
    threads, _, tasks = text.partition("Names of the threads:")
    return threads, tasks


def task_named(tasks, name):
    """The lines of one task, most recent call first; its first line."""
    return next(part for part in tasks.split("\n\n") if part.startswith(f"Task {name}")).splitlines()


@pytest.mark.parametrize("debug", ["", "1"])
def test_an_idle_worker_shows_its_loop_and_its_lifespan(make_mgr, debug):
    mgr = make_mgr("stuck", workers=2, env={"PYTHONASYNCIODEBUG": debug}).start()
    for slot, worker in enumerate(mgr.workers()):
        text = stack(mgr, slot)
        threads, tasks = threads_and_tasks(text)
        assert text.startswith(f"worker {slot} (pid {worker['pid']}, generation 1)\n")
        assert "note:" not in text
        assert "most recent call first" in threads and "run_forever" in threads
        assert "MainThread" in tasks and "waits for a future" in tasks
        assert line_of('(await receive())["type"] != ') + "app" in tasks
    assert mgr.log.count("its stack was taken") == 2
    assert mgr.get("/") == (200, b"idle")


@pytest.mark.parametrize("loop", ["mgr", "asyncio", "uvloop"])
def test_a_handler_in_time_sleep_is_shown_and_sleeps_on(make_mgr, loop):
    mgr = make_mgr("stuck", workers=1, loop=loop).start()
    with request(mgr, "/sleep?3") as connection:
        threads, tasks = threads_and_tasks(stack_with(mgr, "in sleeps"))
        assert line_of("time.sleep(float(") + "sleeps" in threads
        assert any("(GET /sleep?3): it runs now" in line for line in tasks.splitlines())
        answer = read_response(connection)
    assert answer.status == 200 and float(answer.body) >= 3


@pytest.mark.parametrize("threads", [1, 4])
def test_a_wsgi_handler_is_shown_on_the_thread_that_runs_it(make_mgr, threads):
    mgr = make_mgr(workers=1, threads=threads)
    mgr.deploy_text("import time\n\ndef app(environ, start_response):\n"
                    "    time.sleep(float(environ['QUERY_STRING']))\n"
                    "    start_response('200 OK', [])\n    return [b'slept']\n")
    mgr.start()
    with request(mgr, "/?2") as connection:
        shown, names = threads_and_tasks(stack_with(mgr, "in app"))
        assert 'main.py", line 4 in app' in shown
        assert ("mgr wsgi" in names) == (threads > 1)
        assert read_response(connection).status == 200


def test_a_handler_that_waits_for_a_lock_is_shown_with_the_thread_that_holds_it(make_mgr):
    mgr = make_mgr("stuck", workers=1).start()
    with stuck(mgr, "/lock"):
        text = stack_with(mgr, "in waits_for_a_lock")
        assert "in waits_for_a_lock" in text and line_of("file.read(1)") + "hold_the_lock" in text
        assert "note: the loop's thread waits in C code" in text
        assert "Task" not in text
    # What was asked meanwhile is answered late, and disturbs no later answer.
    assert "note:" not in stack(mgr)


def test_where_c_code_holds_the_gil_the_threads_are_shown_alone(make_mgr):
    mgr = make_mgr("stuck", workers=1).start()
    with stuck(mgr, "/gil"):
        text = stack_with(mgr, "in holds_the_gil")
        assert "note: C code holds the GIL" in text
        assert line_of("ctypes.PyDLL(None).read(") + "holds_the_gil" in text
        assert "Task" not in text
    assert "note:" not in stack(mgr)


def test_a_worker_that_hangs_in_its_import_is_shown_there(make_mgr):
    mgr = make_mgr(workers=1, preload="off", boot_timeout="1m")
    mgr.deploy_text("import time\n\ndef connect():\n    time.sleep(3600)\n\nconnect()\n")
    mgr.launch()
    wait_for(lambda: mgr.run("status").returncode == 0, "status answers", period=0.1)
    text = wait_for(lambda: "in connect" in (shown := mgr.run("stack", 0).stdout) and shown, "its import")
    assert 'main.py", line 4 in connect' in text
    assert "note:" not in text and "No task of asyncio." in text


def test_stacks_that_are_taken_under_load_cost_no_request(make_mgr):
    mgr = make_mgr("echo", workers=2).start()
    with no_loss(Load(mgr, "keep", 500, connections=16), Load(mgr, "new", 200)):
        for turn in range(40):
            status, document, _ = mgr.api("GET", f"/v1/workers/{turn % 2}/stack")
            assert status == 200 and document["note"] is None


def test_a_task_shows_every_coroutine_down_to_what_it_waits_for(make_mgr):
    mgr = make_mgr("stuck", workers=1, graceful_timeout="100ms").start()
    with request(mgr, "/deep"):
        _, tasks = threads_and_tasks(stack_with(mgr, "the listener"))
    deep = task_named(tasks, "the deep one")
    assert deep[0] == "Task the deep one: waits for a future (most recent call first):"
    expected = ["Event.wait", "innermost", "numbers", "managed", "_AsyncGeneratorContextManager.__aenter__",
                "middle"]
    assert [line.rsplit(" in ", 1)[1] for line in deep[1:]] == expected
    assert line_of("# the innermost line") in deep[2]
    assert task_named(tasks, "the listener")[0].split(": ")[1].startswith("waits for receive()")
    outer = next(part for part in tasks.split("\n\n") if "(GET /deep)" in part)
    assert "TaskGroup.__aexit__" in outer and line_of("async with asyncio.TaskGroup() as group") in outer


def test_a_huge_stack_is_bounded(make_mgr):
    mgr = make_mgr("stuck", workers=1).start()
    assert mgr.get("/many?3000", seconds=30) == (200, b"made")
    text = stack(mgr)
    assert len(text) < 1_000_000
    assert "tasks more" in text
    assert mgr.get("/") == (200, b"idle")


def test_a_stopped_worker_is_named_as_such_and_not_waited_for(make_mgr):
    mgr = make_mgr("stuck", workers=1).start()
    pid = mgr.workers()[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: ") T " in Path(f"/proc/{pid}/stat").read_text(), "stopped", 5)
        began = time.monotonic()
        done = mgr.run("stack", 0)
        assert time.monotonic() - began < 3
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert f"worker 0: pid {pid} is stopped (state T" in done.stderr
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "in app" in stack(mgr)


@pytest.mark.parametrize("slot, status, words", [
    (1, 1, "there is no slot 1; allowed are 0 to 0"),
    (511, 1, "there is no slot 511; allowed are 0 to 0"),
    (512, 2, "'512' is no slot; allowed: 0 to 511"),
    ("one", 2, "'one' is no slot; allowed: 0 to 511"),
])
def test_a_wrong_slot_is_one_clear_line(make_mgr, slot, status, words):
    mgr = make_mgr("stuck", workers=1).start()
    done = mgr.run("stack", slot)
    assert done.returncode == status and done.stdout == ""
    assert words in done.stderr and done.stderr.count("\n") == 1


def test_a_slot_in_back_off_has_no_stack(make_mgr):
    mgr = make_mgr("stuck", workers=1, crash_backoff="20s..1m").start()

    def waits():
        state = mgr.status_now()["workers"][0]["state"]
        if state == "ready":
            with contextlib.suppress(OSError):
                mgr.get("/die")
        return state == "backoff"

    wait_for(waits, "backoff")
    done = mgr.run("stack", 0)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "no worker runs in slot 0: it is in back-off" in done.stderr


def test_a_worker_whose_signal_was_taken_away_does_not_answer_and_lives(make_mgr):
    mgr = make_mgr("stuck", workers=1).start()
    pid = mgr.workers()[0]["pid"]
    mgr.get("/steal")
    done = mgr.run("stack", 0, seconds=30)
    assert done.returncode == 1 and f"pid {pid} does not answer within 5 s" in done.stderr
    mgr.get("/default")
    done = mgr.run("stack", 0)
    assert done.returncode == 1 and f"pid {pid} does not listen to signal" in done.stderr
    assert mgr.workers()[0]["pid"] == pid


def test_nothing_is_written_where_the_application_has_closed_the_pipe(make_mgr):
    mgr = make_mgr("stuck", workers=1).start()
    assert mgr.get("/close")[0] == 200
    done = mgr.run("stack", 0, seconds=30)
    assert done.returncode == 1
    assert (mgr.directory / "victim").read_bytes() == b""


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_control_api_gives_it_as_json(make_mgr, method):
    mgr = make_mgr("stuck", workers=1).start()
    status, document, headers = mgr.api(method, "/v1/workers/0/stack")
    assert status == 200 and headers["content-type"] == "application/json"
    assert document["slot"] == 0 and document["pid"] == mgr.workers()[0]["pid"]
    assert document["generation"] == 1 and document["note"] is None
    assert "in app" in document["stack"]
    for slot, expected in (("1", 404), ("x", 404), ("", 404), ("-1", 404)):
        status, problem, headers = mgr.api(method, f"/v1/workers/{slot}/stack")
        assert status == expected and headers["content-type"] == "application/problem+json", problem


def test_many_who_ask_at_once_are_all_answered(make_mgr):
    mgr = make_mgr("stuck", workers=2).start()
    answers = []

    def ask(slot):
        answers.append(mgr.api("GET", f"/v1/workers/{slot}/stack")[0])

    threads = [threading.Thread(target=ask, args=(number % 2,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 16


@pytest.mark.parametrize("preload", ["on", "off"])
def test_a_c_plus_plus_application_shows_the_frames_of_its_threads(make_mgr, preload):
    mgr = make_mgr(target="app.so", workers=1, preload=preload)
    shutil.copyfile(LIBRARIES / "echo.so", mgr.directory / "app.so")
    mgr.start()
    idle = stack(mgr)
    assert "epoll" in idle and "mgr::native::serve(" in idle and ", the loop's:" in idle
    with stuck(mgr, "/stuck"):
        text = stack_with(mgr, "stay_in_the_loop")
        frames = [line for line in text.splitlines() if line.startswith("  #")]
        names = " ".join(frames)
        assert frames[0].startswith("  #0 ") and "(app.so)" in names
        at = [next(index for index, frame in enumerate(frames) if name in frame) for name in
              ("read", "stay_in_the_loop", "request(", "mgr::native::serve(", "_start")]
        assert at == sorted(at)
    assert mgr.get("/x") == (200, b"echo /x")


def test_threads_of_a_c_plus_plus_application_are_shown_beside_its_loop(make_mgr):
    mgr = make_mgr(target="app.so", workers=1, graceful_timeout="100ms")
    shutil.copyfile(LIBRARIES / "echo.so", mgr.directory / "app.so")
    mgr.start()
    with request(mgr, "/block"):
        text = stack_with(mgr, "nanosleep")
    loop, *others = text.split("\n\n")[1:]
    assert ", the loop's:" in loop and "nanosleep" not in loop
    assert any("nanosleep" in other and "ThreadPool" in other for other in others)
