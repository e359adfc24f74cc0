"""The supervisor is killed: workers finish and leave, those that are stuck too, and nothing is left."""

import os
import signal
import time

import pytest
from mgr_harness import alive, processes_with, read_response, wait_for
from test_native import install as install_library

GRACEFUL = 1.5
SLACK = 2  # last_resort: how much later than its deadline a worker that does not turn is killed
REQUEST = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

BLOCKED_IMPORT = """
import os, time
if os.path.exists("block"):
    open("blocked", "w").close()
    time.sleep(3600)
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})
"""


def killed(mgr):
    mgr.process.kill()
    mgr.wait_exit()
    return time.monotonic()


def assert_all_leave_in_time(mgr, began, slack=SLACK):
    wait_for(lambda: not processes_with(mgr.mark), "all have left", GRACEFUL + slack + 3)
    assert time.monotonic() - began < GRACEFUL + slack + 1


def in_flight(mgr, count):
    wait_for(lambda: sum(worker["in_flight"] for worker in mgr.status_now()["workers"]) == count,
             f"{count} in flight")


def send(mgr, path):
    connection = mgr.connect()
    connection.sendall(REQUEST % path)
    return connection


def test_requests_in_flight_are_finished_and_the_lifespan_is_shut_down(make_mgr):
    mgr = make_mgr("echo", workers=2, graceful_timeout="10s").start()
    with send(mgr, b"/slow?1") as connection:
        in_flight(mgr, 1)
        killed(mgr)
        assert read_response(connection).body == b"slow"
    mgr.assert_nothing_left()
    assert mgr.log.count("lifespan shutdown in") == 2
    assert mgr.log.count("the supervisor is gone: finishing, then leaving") == 2


def test_what_takes_longer_than_graceful_timeout_is_cut(make_mgr):
    mgr = make_mgr("echo", workers=2, graceful_timeout=f"{GRACEFUL}s").start()
    with send(mgr, b"/slow?60") as connection:
        in_flight(mgr, 1)
        began = killed(mgr)
        assert connection.recv(1) == b""
    assert_all_leave_in_time(mgr, began)


def test_a_connection_that_waits_in_the_queue_is_served(make_mgr):
    mgr = make_mgr("stuck", workers=1, graceful_timeout="10s").start()
    with send(mgr, b"/sleep?1.5") as busy:
        in_flight(mgr, 1)
        with send(mgr, b"/") as queued:
            wait_for(lambda: mgr.status_now()["listeners"][0]["queued"] == 1, "queued")
            killed(mgr)
            assert read_response(queued).body == b"idle"
        read_response(busy)
    mgr.assert_nothing_left()


@pytest.mark.parametrize("path", [b"/sleep?3600", b"/gil?fifo"])
def test_a_python_loop_that_is_blocked_is_killed_by_its_timer(make_mgr, path):
    mgr = make_mgr("stuck", workers=2, graceful_timeout=f"{GRACEFUL}s").start()
    os.mkfifo(mgr.directory / "fifo")
    holder = os.open(mgr.directory / "fifo", os.O_RDWR)
    try:
        with send(mgr, path):
            in_flight(mgr, 1)
            began = killed(mgr)
            assert_all_leave_in_time(mgr, began)
            assert time.monotonic() - began > GRACEFUL, "it had its time"
    finally:
        os.close(holder)


@pytest.mark.parametrize("path", [b"/stuck?fifo", b"/block"])
def test_a_loop_or_a_thread_in_c_plus_plus_that_is_blocked_is_killed_by_a_timer(make_mgr, path):
    mgr = make_mgr(target="app.so", workers=2, graceful_timeout=f"{GRACEFUL}s")
    install_library(mgr, "echo")
    os.mkfifo(mgr.directory / "fifo")
    mgr.start()
    with send(mgr, path):
        in_flight(mgr, 1)
        assert_all_leave_in_time(mgr, killed(mgr))


@pytest.mark.parametrize("threads", [1, 4])
def test_busy_threads_of_wsgi_hold_nothing_up(make_mgr, threads):
    mgr = make_mgr("wsgi", workers=2, threads=threads, graceful_timeout=f"{GRACEFUL}s").start()
    connections = [send(mgr, b"/slow?3600") for _ in range(8)]
    wait_for(lambda: sum(worker["in_flight"] for worker in mgr.status_now()["workers"]) >= 2, "busy")
    assert_all_leave_in_time(mgr, killed(mgr))
    for connection in connections:
        connection.close()


def test_a_mold_that_hangs_in_an_import_goes_at_once(make_mgr):
    mgr = make_mgr("echo", workers=2, preload="on", graceful_timeout=f"{GRACEFUL}s").start()
    mgr.deploy_text(BLOCKED_IMPORT)
    (mgr.directory / "block").touch()
    mgr.process.send_signal(signal.SIGHUP)
    wait_for(lambda: (mgr.directory / "blocked").exists(), "the new mold hangs")
    assert_all_leave_in_time(mgr, killed(mgr), slack=0.5)


def test_a_worker_that_hangs_in_its_own_import_is_killed_by_its_timer(make_mgr):
    mgr = make_mgr("echo", workers=2, preload="off", graceful_timeout=f"{GRACEFUL}s").start()
    mgr.deploy_text(BLOCKED_IMPORT)
    (mgr.directory / "block").touch()
    mgr.process.send_signal(signal.SIGHUP)
    wait_for(lambda: (mgr.directory / "blocked").exists(), "the new worker hangs")
    assert_all_leave_in_time(mgr, killed(mgr))


def test_workers_that_are_stopped_leave_when_they_go_on(make_mgr):
    mgr = make_mgr("echo", workers=2, graceful_timeout=f"{GRACEFUL}s").start()
    pids = [worker["pid"] for worker in mgr.workers()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    killed(mgr)
    assert all(alive(pid) for pid in pids)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    mgr.assert_nothing_left()


def test_killed_during_a_reload_and_a_scale_it_leaves_nothing(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="200ms", graceful_timeout=f"{GRACEFUL}s").start()
    mgr.process.send_signal(signal.SIGHUP)
    for _ in range(3):
        mgr.process.send_signal(signal.SIGTTIN)
    wait_for(lambda: "generation 2: application loaded" in mgr.log, "the new mold is loaded")
    assert_all_leave_in_time(mgr, killed(mgr))
