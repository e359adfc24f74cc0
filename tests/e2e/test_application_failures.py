"""An application that fails costs its own request, or at most its own worker, and the log tells
what happened: with what the application itself has printed, in order and whole."""

import contextlib
import re

import pytest

from mgr_harness import APPS, read_response, wait_for

RECORD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ", re.M)


@pytest.fixture
def mgr(make_mgr):
    return make_mgr("failures", workers=2, preload="on", min_ready="100ms").start()


class ToWorker:
    """A connection to one worker, and requests on it."""

    def __init__(self, mgr, slot):
        self.pid = next(each["pid"] for each in mgr.status_now()["workers"] if each["slot"] == slot)
        self.slot, self.mgr = slot, mgr

        def connected():
            self.connection = mgr.connect(seconds=20)
            if int(self.get("/pid")) == self.pid:
                return True
            return self.connection.close()

        wait_for(connected, f"a connection to worker {slot}")

    def ask(self, path):
        self.connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def answer(self):
        return read_response(self.connection)

    def get(self, path, status=200):
        self.ask(path)
        answer = self.answer()
        assert answer.status == status, (path, answer.status, answer.body)
        return answer.body.decode()

    def rest(self):
        """All that still comes, up to the end of the connection."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while part := self.connection.recv(65536):
                data += part
        return data

    def in_status(self):
        return next(each for each in self.mgr.status_now()["workers"] if each["slot"] == self.slot)


class Held:
    """A request in flight on a worker, which must be answered whatever happens meanwhile."""

    def __init__(self, mgr, slot, name):
        self.waiting, self.name = ToWorker(mgr, slot), name
        self.waiting.ask(f"/held/{name}")
        self.other = ToWorker(mgr, slot)
        wait_for(lambda: self.waiting.in_status()["in_flight"] == 1, "in flight")

    def assert_answered(self):
        wait_for(lambda: self.other.get(f"/let/{self.name}") == "let", "let go")
        answer = self.waiting.answer()
        assert (answer.status, answer.body) == (200, b"held")
        worker = self.waiting.in_status()
        assert (worker["pid"], worker["restarts"]) == (self.waiting.pid, 0)


def records_with(mgr, text):
    """The records of the log that contain it, whole."""
    starts = [found.start() for found in RECORD.finditer(mgr.log)]
    log = mgr.log
    parts = [log[a:b] for a, b in zip(starts, [*starts[1:], len(log)])]
    return [part for part in parts if text in part]


# ---- output

@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_two_workers_print_and_log_comes_out_in_order_and_whole(make_mgr, unbuffered):
    mgr = make_mgr("failures", workers=2, preload="on", env={"PYTHONUNBUFFERED": unbuffered}).start()
    workers = [ToWorker(mgr, slot) for slot in (0, 1)]
    for worker in workers:
        worker.ask("/write/300")
    for worker in workers:
        assert worker.answer().body == b"written"
    lines = mgr.log.splitlines()
    for worker in workers:
        expected = []
        for number in range(300):
            filler = "x" * (200 if number % 50 else 20000)
            expected += [f"stdout {worker.pid} {number} {filler}.", f"stderr {worker.pid} {number} {filler}.",
                         f"logged {worker.pid} {number} {filler}", f"second line of {worker.pid} {number}."]
        mine = [line for line in lines if f" {worker.pid} " in line[:40]]
        assert [line[:60] for line in mine] == [line[:60] for line in expected]
        assert [len(line) for line in mine] == [len(line) for line in expected]
        seconds = [index for index, line in enumerate(lines) if line.startswith(f"second line of {worker.pid} ")]
        assert len(seconds) == 300
        for index in seconds:  # a record of two lines was one write
            assert lines[index - 1].startswith(f"logged {worker.pid} "), lines[index - 1][:100]


def test_a_stream_that_was_taken_before_the_application_was_loaded_still_writes(make_mgr, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nearly = sys.stdout\n")
    mgr = make_mgr("failures", workers=1, env={"PYTHONPATH": str(tmp_path)})
    mgr.deploy_text("import sys, sitecustomize\nfrom failures import app\n"
                    "print('early', file=sitecustomize.early)\nprint('late', sys.stdout.name)\n")
    (mgr.directory / "failures.py").write_text((APPS / "failures.py").read_text())
    mgr.start()
    lines = mgr.log.splitlines()
    assert lines.index("early") + 1 == lines.index("late <stdout>")


def test_what_was_printed_before_a_crash_is_there_and_before_the_news_of_it(mgr):
    worker = ToWorker(mgr, 0)
    worker.ask("/write_and_die")
    assert worker.rest() == b""
    wait_for(lambda: f"(pid {worker.pid}, generation 1) died" in mgr.log, "the news")
    lines = [line for line in mgr.log.splitlines() if "the last" in line or " died " in line]
    assert lines[:3] == ["the last line on stdout", "the last line on stderr",
                         "logged the last record"]
    assert "killed by signal 9" in lines[3] and len(lines) == 4


# ---- what ends the request alone

@pytest.mark.parametrize("path, error", [
    ("/fail", "LookupError: on purpose"),
    ("/system_exit", "SystemExit: 7"),
    ("/keyboard_interrupt", "KeyboardInterrupt"),
    ("/recursion", "RecursionError: maximum recursion depth exceeded"),
])
def test_an_exception_costs_its_request_and_is_logged_once_with_the_request_line(mgr, path, error):
    held = Held(mgr, 0, "same")
    worker = ToWorker(mgr, 0)
    assert worker.get(f"{path}?q=1", 500) == "Internal Server Error"
    held.assert_answered()
    assert worker.get("/pid") == str(worker.pid)
    told = records_with(mgr, error)
    assert len(told) == 1
    head, traceback = told[0].split("\n", 1)
    assert head.endswith(f"[worker 0] [error] GET {path}?q=1: the application failed")
    assert traceback.startswith("Traceback (most recent call last):\n") and "main.py" in traceback
    assert traceback.rstrip().splitlines()[-1].startswith(error)
    assert "mgr_host" not in traceback


# Where nothing at all is left, CPython may be unable to add a frame to the traceback: then a second
# MemoryError stands beside the first, and one of them has no frame, or begins with the frame's caller.
@pytest.mark.parametrize("path, first, frame", [
    ("/memory_of_small_pieces", "(MemoryError\n\nDuring handling of [^\n]*\n\n)?",
     "(app|memory_of_small_pieces)"),
    ("/memory_of_one_piece", "", "memory_of_one_piece"),
])
def test_a_request_that_uses_up_the_memory_ends_and_its_worker_serves_on(mgr, path, first, frame):
    held = Held(mgr, 0, "same")
    worker = ToWorker(mgr, 0)
    worker.get("/limit_memory/64")
    for number in range(1, 4):
        assert worker.get(path, 500) == "Internal Server Error"
        told = records_with(mgr, "MemoryError")
        assert len(told) == number
        assert re.search(f"GET {path}: the application failed\n{first}Traceback", told[-1])
        assert re.search(f"main.py\", line [0-9]+, in {frame}\n", told[-1]), told[-1]
    assert worker.get("/pid") == str(worker.pid)
    held.assert_answered()


# ---- what ends the worker

@pytest.mark.parametrize("path, how, words", [
    ("/exit_at_once", "exit status 7", None),
    ("/segmentation_fault", "killed by signal 11", "Fatal Python error: Segmentation fault"),
    ("/abort", "killed by signal 6", "Fatal Python error: Aborted"),
    ("/stack_overflow", "killed by signal 11", "Fatal Python error: Segmentation fault"),
])
def test_a_crash_costs_its_worker_alone_and_the_log_has_pythons_traceback(mgr, path, how, words):
    held = Held(mgr, 1, "other")
    worker = ToWorker(mgr, 0)
    worker.ask(path)
    assert worker.rest() == b""
    wait_for(lambda: worker.in_status()["pid"] not in (0, worker.pid)
             and worker.in_status()["state"] == "ready", "replaced", period=0.005)
    assert worker.in_status()["restarts"] == 1
    assert how in worker.in_status()["last_exit"]
    assert ToWorker(mgr, 0).pid != worker.pid
    held.assert_answered()
    told = records_with(mgr, f"(pid {worker.pid}, generation 1) died")
    assert len(told) == 1
    first, *rest = told[0].rstrip("\n").split("\n")
    assert how in first and "; a new one starts" in first
    if words is None:
        assert rest == []
        return
    assert rest[0] == words
    assert any(re.match(r'  File ".*main\.py", line \d+ in ' + path[1:].split("_")[0], line)
               or "in deeper" in line for line in rest), rest
    assert mgr.log.count(words) == 1


@pytest.mark.parametrize("path, error, status", [
    ("/exit_in_a_task", "SystemExit: 9", 9),
    ("/interrupt_in_a_callback", "KeyboardInterrupt: from a callback", 130),
])
def test_an_exit_outside_of_a_request_ends_the_worker_and_says_so(mgr, path, error, status):
    held = Held(mgr, 1, "other")
    worker = ToWorker(mgr, 0)
    worker.ask(path)
    assert worker.rest() == b""
    wait_for(lambda: worker.in_status()["state"] == "ready" and worker.in_status()["restarts"] == 1,
             "replaced", period=0.005)
    held.assert_answered()
    assert f"exit status {status}" in worker.in_status()["last_exit"]
    told = records_with(mgr, "[worker 0] [error] the application ended its worker from a task or callback")
    assert len(told) == 1
    assert re.search(r'callback\nTraceback [^\n]*\n  File "[^"]*main\.py", line', told[0]), told[0]
    assert told[0].endswith(f"\n{error}\n")


@pytest.mark.parametrize("loop", ["mgr", "asyncio"])
def test_an_application_that_stops_its_loop_has_its_worker_replaced_whatever_threads_it_has(
        make_mgr, loop):
    mgr = make_mgr("failures", workers=2, loop=loop, timeout="0s", min_ready="100ms").start()
    held = Held(mgr, 1, "other")
    worker = ToWorker(mgr, 0)
    worker.ask("/stop_the_loop")
    assert worker.rest() == b""
    wait_for(lambda: worker.in_status()["state"] == "ready" and worker.in_status()["restarts"] == 1,
             "replaced", period=0.005)
    held.assert_answered()
    assert "exit status 1" in worker.in_status()["last_exit"]
    told = records_with(mgr, "the application stopped its worker's loop (loop.stop()): the worker ends")
    assert len(told) == 1 and "Traceback" not in mgr.log


def test_a_crash_of_a_process_that_the_application_forked_is_told_on_stderr(mgr):
    worker = ToWorker(mgr, 0)
    assert worker.get("/crash_of_a_child") == "-11"
    assert "Fatal Python error: Segmentation fault" in mgr.log
    assert worker.get("/pid") == str(worker.pid)
    assert "died" not in mgr.log


@pytest.mark.parametrize("preload, status", [("on", 4), ("off", 3)])
def test_a_crash_while_loading_ends_the_first_start_with_pythons_traceback(make_mgr, preload, status):
    mgr = make_mgr("failures", workers=1, preload=preload)
    mgr.deploy_text("import ctypes\nctypes.string_at(0)\n")
    assert mgr.launch().wait_exit() == status
    assert "Fatal Python error: Segmentation fault" in mgr.log
    assert 'main.py", line 2 in <module>' in mgr.log


def test_a_reload_whose_code_crashes_is_refused_with_pythons_traceback(mgr):
    mgr.deploy_text("import ctypes\nctypes.string_at(0)\n")
    done = mgr.run("reload")
    assert done.returncode == 1
    assert "killed by signal 11" in done.stdout + done.stderr
    assert 'main.py", line 2 in <module>' in done.stdout + done.stderr
    ToWorker(mgr, 0).get("/pid")
