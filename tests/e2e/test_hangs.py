"""The setting `timeout`: a worker whose loop is blocked is explained, replaced and killed; one that only
waits for a CPU, or was stopped together with the supervisor, is not."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from metrics_harness import scrape
from mgr_harness import APPS, alive, processes_with, read_response, wait_for

LIBRARIES = Path(os.environ["BUILD_DIR"]) / "tests/e2e/native"

# Routes beside those of stuck.py.
MORE = '''

async def ignores_abort(scope, receive, send):
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    time.sleep(60)


async def computes(scope, receive, send):
    """So much time on a CPU, however long it takes."""
    began = time.monotonic()
    end = time.process_time() + float(scope["query_string"])
    while time.process_time() < end:
        pass
    await respond(send, b"%f" % (time.monotonic() - began))


async def sleeps_later(scope, receive, send):
    await asyncio.sleep(0.01)
    time.sleep(60)


ROUTES |= {"/ignore-abort": ignores_abort, "/sleep-later": sleeps_later, "/compute": computes}
'''


@pytest.fixture
def make_hanging(make_mgr):
    def make(**settings):
        mgr = make_mgr("stuck", **{"workers": 2, "timeout": "2s", "min_ready": "100ms", "graceful_timeout": "1s",
                                    **settings})
        mgr.deploy_text((APPS / "stuck.py").read_text() + MORE)
        return mgr.start()
    return make


def worker_with_a_request(mgr):
    return next((worker for worker in mgr.status_now()["workers"] if worker["in_flight"]), None)


@contextlib.contextmanager
def request(mgr, path):
    """A request under way, and the worker that has it."""
    with mgr.connect(60) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        yield connection, wait_for(lambda: worker_with_a_request(mgr), "in flight")


def state_of(mgr, worker):
    return mgr.status_now()["workers"][worker["slot"]]["state"]


def restarts(mgr, reason):
    return scrape(mgr)("mgr_worker_restarts_total", reason=reason)


def at(mgr, words):
    """Where in the log these words are."""
    assert words in mgr.log, words
    return mgr.log.index(words)


@pytest.mark.parametrize("preload", ["on", "off"])
def test_a_blocked_worker_is_explained_then_replaced_then_ended(make_hanging, preload):
    mgr = make_hanging(preload=preload)
    with request(mgr, "/sleep?60") as (_, worker):
        who = f"worker {worker['slot']} (pid {worker['pid']}, generation 1)"
        wait_for(lambda: state_of(mgr, worker) == "hung", "hung")
        assert scrape(mgr)("mgr_workers", state="hung") == 1
        assert mgr.run("ready").returncode == 0, "the other one serves"
        wait_for(lambda: not alive(worker["pid"]), "its end", 30)
    fresh = wait_for(lambda: next((each for each in mgr.status_now()["workers"]
                                   if each["slot"] == worker["slot"] and each["state"] == "ready"), None), "ready")
    assert fresh["pid"] != worker["pid"] and fresh["restarts"] == 1
    assert fresh["last_exit"].startswith("hung, timeout: 2")
    wait_for(lambda: restarts(mgr, "timeout") == 1, "counted")
    assert restarts(mgr, "killed") + restarts(mgr, "signal") + restarts(mgr, "graceful_timeout") == 0
    order = [at(mgr, f"[warning] {who} has been running one callback for 1"),
             at(mgr, f"[error] {who} hangs: it has been running one callback for 2"),
             at(mgr, f"worker {worker['slot']} (pid {fresh['pid']}, generation 1) ready"),
             at(mgr, f"[error] {who} is ended by SIGABRT")]
    assert order == sorted(order)
    # Each of the two shows the handler's line and the request.
    line = next(number for number, text in enumerate((APPS / "stuck.py").read_text().splitlines(), 1)
                if "time.sleep(float(" in text)
    assert mgr.log.count(f'main.py", line {line} in sleeps') >= 2
    dump = mgr.log[at(mgr, f"{who} hangs here"):]
    assert "(GET /sleep?60): it runs now" in dump, "asyncio's tasks too"
    assert mgr.get("/") == (200, b"idle")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_loop_of_the_applications_choice_that_blocks_after_a_wait_is_found_too(make_hanging, loop):
    mgr = make_hanging(loop=loop)
    with request(mgr, "/sleep-later") as (_, worker):
        wait_for(lambda: state_of(mgr, worker) == "hung", "hung")
        wait_for(lambda: not alive(worker["pid"]), "its end", 30)
    assert "in sleeps_later" in mgr.log[at(mgr, "hangs here"):]
    wait_for(lambda: restarts(mgr, "timeout") == 1, "counted")


def test_one_that_ignores_sigabrt_is_killed(make_hanging):
    mgr = make_hanging(timeout="1s")
    with request(mgr, "/ignore-abort") as (_, worker):
        wait_for(lambda: "is ended by SIGABRT" in mgr.log, "told", 20)
        wait_for(lambda: not alive(worker["pid"]), "killed", 10)
    assert f"worker {worker['slot']} (pid {worker['pid']}) has not left within its time; it is killed" in mgr.log
    wait_for(lambda: restarts(mgr, "timeout") == 1, "counted")


def test_one_that_holds_the_gil_in_c_code_is_replaced_too(make_hanging):
    mgr = make_hanging(timeout="1s")
    fifo = mgr.directory / "never"
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDWR), "rb"), request(mgr, f"/gil?{fifo}") as (_, worker):
        wait_for(lambda: not alive(worker["pid"]), "its end", 30)
    assert "C code holds the GIL" in mgr.log[at(mgr, "hangs here"):]
    wait_for(lambda: restarts(mgr, "timeout") == 1, "counted")


def test_the_only_worker_is_replaced_first_as_well(make_hanging):
    mgr = make_hanging(workers=1, timeout="1s")
    with request(mgr, "/sleep?60") as (_, worker):
        wait_for(lambda: mgr.run("ready").returncode == 1, "not ready")
        # Answered by the successor, whose first task is the queue.
        assert mgr.get("/", seconds=20) == (200, b"idle")
        wait_for(lambda: not alive(worker["pid"]), "its end", 30)
    assert at(mgr, ") ready after") < at(mgr, "is ended by SIGABRT")
    assert mgr.run("ready").returncode == 0


def test_a_handler_that_ends_in_time_is_warned_about_and_answers(make_hanging):
    mgr = make_hanging(timeout="3s")
    with request(mgr, "/sleep?2.2") as (connection, worker):
        wait_for(lambda: state_of(mgr, worker) == "hung", "hung")
        assert read_response(connection).status == 200
    wait_for(lambda: state_of(mgr, worker) == "ready", "ready again")
    assert f"worker {worker['slot']} (pid {worker['pid']}, generation 1) turns again" in mgr.log
    assert "in sleeps" in mgr.log and "hangs" not in mgr.log
    assert alive(worker["pid"]) and restarts(mgr, "timeout") == 0


def test_handlers_that_wait_as_they_should_hang_nobody(make_hanging):
    mgr = make_hanging(timeout="500ms")
    with request(mgr, "/deep") as (_, worker):
        # Longer than the timeout, while the loop waits.
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            assert state_of(mgr, worker) == "ready"
            time.sleep(0.05)
    assert "running one callback" not in mgr.log


def test_0_switches_it_off_and_a_reload_on(make_mgr, tmp_path):
    file = tmp_path / "mgr.yaml"
    file.write_text("timeout: 0\n")
    mgr = make_mgr("stuck", workers=1, config=file, min_ready="100ms").start()
    with request(mgr, "/sleep?1.5") as (connection, _):
        assert read_response(connection).status == 200
    assert "running one callback" not in mgr.log
    file.write_text("timeout: 1s\n")
    mgr.must("reload")
    with request(mgr, "/sleep?60") as (_, worker):
        wait_for(lambda: not alive(worker["pid"]), "its end", 30)


def test_a_c_plus_plus_application_is_dumped_by_its_frames(make_mgr):
    mgr = make_mgr(target="app.so", workers=2, timeout="1s")
    shutil.copyfile(LIBRARIES / "echo.so", mgr.directory / "app.so")
    mgr.start()
    fifo = mgr.directory / "never"
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDWR), "rb"), request(mgr, f"/stuck?{fifo}") as (_, worker):
        wait_for(lambda: not alive(worker["pid"]), "its end", 30)
    assert "stay_in_the_loop" in mgr.log[at(mgr, "hangs here"):]
    wait_for(lambda: restarts(mgr, "timeout") == 1, "counted")


def test_a_wsgi_request_on_the_loops_own_thread_is_bounded_and_on_others_not(make_mgr):
    text = ("import time\n\n\ndef app(environ, start_response):\n    time.sleep(float(environ['QUERY_STRING']))\n"
            "    start_response('200 OK', [])\n    return [b'done']\n")
    for threads, hangs in ((1, True), (2, False)):
        mgr = make_mgr(workers=1, threads=threads, timeout="1s", min_ready="100ms")
        mgr.deploy_text(text)
        mgr.start()
        with request(mgr, "/?2.5") as (connection, worker):
            if hangs:
                wait_for(lambda: not alive(worker["pid"]), "its end", 30)
            else:
                assert read_response(connection).body == b"done"
        assert ("hangs" in mgr.log) == hangs


BURN = "import os, sys, time\nend = time.monotonic() + 60\nwhile time.monotonic() < end and os.getppid() == int(sys.argv[1]): pass"


@contextlib.contextmanager
def overload(factor):
    """`factor` processes for each CPU compute; a minute at most."""
    count = factor * len(os.sched_getaffinity(0))
    burners = [subprocess.Popen([sys.executable, "-S", "-c", BURN, str(os.getpid())]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
        for burner in burners:
            burner.wait()


def test_a_machine_overloaded_eightfold_kills_nobody(make_hanging):
    mgr = make_hanging(timeout="1500ms")
    before = [worker["pid"] for worker in mgr.workers()]
    with overload(8):
        for _ in range(2):
            with request(mgr, "/compute?0.7") as (connection, _):
                took = float(read_response(connection).body)
            # Far beyond the timeout by the clock on the wall, well within it by that of the CPU.
            assert took > 2.5, "that was no overload"
    assert [worker["pid"] for worker in mgr.workers()] == before
    assert "hangs: " not in mgr.log
    assert "was kept from a CPU for" in mgr.log
    # The same without the overload is a hang: the verdict is able to tell.
    with request(mgr, "/compute?60") as (_, worker):
        wait_for(lambda: not alive(worker["pid"]), "its end", 30)


@pytest.fixture
def throttle():
    """throttle(pid, percent): no more of one CPU than that, by a cgroup's quota."""
    version_1 = Path("/sys/fs/cgroup/cpu")
    root = version_1 if version_1.is_dir() else Path("/sys/fs/cgroup")
    group = root / f"mgr-{uuid.uuid4().hex[:8]}"
    quota = group / ("cpu.cfs_quota_us" if root == version_1 else "cpu.max")
    try:
        group.mkdir()
        if not quota.exists():
            group.rmdir()
            pytest.skip("no CPU controller")
    except OSError as problem:
        pytest.skip(f"no cgroup can be made: {problem}")

    def put(pid, percent):
        quota.write_text(str(percent * 1000) if root == version_1 else f"{percent * 1000} 100000")
        (group / "cgroup.procs").write_text(str(pid))

    yield put
    for pid in (group / "cgroup.procs").read_text().split():
        (root / "cgroup.procs").write_text(pid)
    group.rmdir()


def test_the_quota_of_a_cgroup_kills_nobody(make_hanging, throttle):
    mgr = make_hanging(workers=1, timeout="1500ms")
    pid = mgr.workers()[0]["pid"]
    throttle(pid, 8)
    with request(mgr, "/compute?0.4") as (connection, _):
        took = float(read_response(connection).body)
    assert took > 2.5, "that was no throttling"
    assert mgr.workers()[0]["pid"] == pid and "hangs: " not in mgr.log
    assert "was kept from a CPU for" in mgr.log


def test_a_blocked_loop_is_told_from_an_overloaded_machine(make_hanging):
    mgr = make_hanging(timeout="1500ms")
    with overload(2), request(mgr, "/sleep?60") as (_, worker):
        wait_for(lambda: not alive(worker["pid"]), "its end", 40)
    wait_for(lambda: restarts(mgr, "timeout") == 1, "counted")


def test_a_machine_that_was_suspended_is_forgiven(make_hanging):
    mgr = make_hanging(timeout="3s")
    with request(mgr, "/sleep?5") as (connection, worker):
        everybody = [mgr.pid, *(each["pid"] for each in mgr.workers())]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(5.5)  # longer than the timeout: the clock jumps
        # The handler's sleep is over by now; it is the supervisor that must not act first.
        os.kill(mgr.pid, signal.SIGCONT)
        wait_for(lambda: mgr.status_now()["pid"] == mgr.pid, "answers")
        assert alive(worker["pid"])
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
        assert read_response(connection).status == 200
    assert "hangs: " not in mgr.log and alive(worker["pid"])


def test_a_stopped_supervisor_counts_its_own_sleep_for_nobody(make_hanging):
    mgr = make_hanging(timeout="3s")
    with request(mgr, "/sleep?60") as (_, worker):
        os.kill(mgr.pid, signal.SIGSTOP)
        time.sleep(4)
        os.kill(mgr.pid, signal.SIGCONT)
        went_on = time.monotonic()
        wait_for(lambda: "hangs: " in mgr.log, "the verdict", 20)
        assert time.monotonic() - went_on > 1.5
        assert "has been running one callback for 3" in mgr.log[at(mgr, "hangs: "):]
        wait_for(lambda: not alive(worker["pid"]), "its end", 20)


def test_a_stopped_worker_is_shown_served_around_and_left_alone(make_hanging):
    mgr = make_hanging(timeout="1s")
    worker = mgr.workers()[0]
    os.kill(worker["pid"], signal.SIGSTOP)
    wait_for(lambda: state_of(mgr, worker) == "hung", "hung")
    assert f"worker 0 (pid {worker['pid']}, generation 1) was stopped by a signal" in mgr.log
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        assert mgr.get("/", seconds=2) == (200, b"idle")
    assert alive(worker["pid"]) and mgr.workers()[0]["pid"] == worker["pid"]
    os.kill(worker["pid"], signal.SIGCONT)
    wait_for(lambda: state_of(mgr, worker) == "ready", "ready again")


def wakes_of(pids):
    """How often these processes have waited and been woken."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            status = (task / "status").read_text()
            total += int(status.split("voluntary_ctxt_switches:\t")[1].split()[0])
    return total


def test_an_idle_tree_of_eight_workers_wakes_at_most_20_times_a_second(make_hanging):
    mgr = make_hanging(workers=8, timeout="30s")
    pids = processes_with(mgr.mark)
    assert len(pids) >= 10, "supervisor, mold and eight workers"
    seconds = 4
    before = wakes_of(pids)
    time.sleep(seconds)  # it is the time in which nothing is to happen
    assert 0 < wakes_of(pids) - before <= 20 * seconds


def test_a_negative_one_is_refused(make_mgr):
    mgr = make_mgr(workers=1, timeout="-1s").launch()
    assert mgr.wait_exit() == 78
    assert "--timeout: '-1s' is no duration (such as 500ms, 30s, 5m, 2h); allowed: 0s to 24h" in mgr.log
