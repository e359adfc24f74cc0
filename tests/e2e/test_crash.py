"""A killed worker costs at most what it had in hand, and is replaced within milliseconds."""

import os
import signal
import socket
import statistics
import time
from pathlib import Path

from mgr_harness import Load, alive, stop_and_kill, wait_for

KILLS = 20


def worker_in(mgr, slot):
    return next(worker for worker in mgr.status_now()["workers"] if worker["slot"] == slot)


def settled(mgr):
    """Workers that have lived for a while: these deaths are no crash loop."""
    workers = mgr.status_now()["workers"]
    return all(worker["state"] == "ready" and worker["uptime_s"] > 1.1 for worker in workers)


def kill_20_times(mgr):
    in_hand, seconds = set(), []
    for turn in range(KILLS):
        wait_for(lambda: settled(mgr), "both workers have lived for a while", 10)
        slot = turn % 2
        old = worker_in(mgr, slot)["pid"]
        in_hand |= stop_and_kill(old)
        killed = time.monotonic()

        def replaced():
            worker = worker_in(mgr, slot)
            return worker["pid"] != old and worker["state"] == "ready"

        wait_for(replaced, "a replacement is ready", 10, period=0.001)
        seconds.append(time.monotonic() - killed)
        assert not alive(old)
    return in_hand, seconds


def assert_lost_only_in_hand(report, in_hand):
    assert report["lost"] == len(report["losses"])
    for loss in report["losses"]:
        assert loss["local_port"] in in_hand, loss
        assert loss["kind"] in ("reset", "eof_before_response", "truncated", "raced"), loss


def test_20_kills_cost_only_what_the_workers_had_in_hand(make_mgr):
    mgr = make_mgr("echo", workers=2, preload="on").start()
    with Load(mgr, "new", 500, details=10000) as new, \
            Load(mgr, "keep", 500, connections=16, depth=4, details=10000) as keep:
        in_hand, seconds = kill_20_times(mgr)
        reports = [new.stop(), keep.stop()]
    print("recovery in ms:", sorted(round(value * 1000) for value in seconds))
    print("lost:", [report["lost"] for report in reports])
    for report in reports:
        assert report["ok"] > 5000
        assert_lost_only_in_hand(report, in_hand)
    assert statistics.median(seconds) <= 0.1
    assert max(seconds) <= 1.0


def test_status_and_log_say_how_a_worker_died(make_mgr):
    mgr = make_mgr("echo", workers=2, preload="on").start()
    wait_for(lambda: settled(mgr), "settled", 10)
    old = worker_in(mgr, 0)["pid"]
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: worker_in(mgr, 0)["pid"] not in (old, 0) and worker_in(mgr, 0)["state"] == "ready",
             "replaced")
    worker = worker_in(mgr, 0)
    assert worker["restarts"] == 1
    assert "SIGKILL" in str(worker["last_exit"]) or "signal 9" in str(worker["last_exit"])
    line = next(line for line in mgr.log.splitlines() if str(old) in line and "kill" in line.lower())
    assert "slot 0" in line or "worker 0" in line


def test_connections_waiting_in_the_queue_of_a_dead_worker_are_served(make_mgr):
    """With one worker, stopped so that it accepts nothing, and then killed."""
    mgr = make_mgr("echo", workers=1, preload="on").start()
    wait_for(lambda: settled(mgr), "settled", 10)
    old = worker_in(mgr, 0)["pid"]
    address = mgr.address
    os.kill(old, signal.SIGSTOP)
    wait_for(lambda: " T " in Path(f"/proc/{old}/stat").read_text(), "stopped", 5)
    waiting = []
    host, port = address.split(":")
    for number in range(50):
        connection = socket.create_connection((host, int(port)), timeout=10)
        connection.sendall(b"GET /echo/%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % number)
        waiting.append(connection)
    os.kill(old, signal.SIGKILL)
    for number, connection in enumerate(waiting):
        answer = b""
        while data := connection.recv(65536):
            answer += data
        assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"echo /echo/%d" % number)
        connection.close()


def test_a_killed_mold_is_replaced_and_nothing_is_lost(make_mgr):
    mgr = make_mgr("echo", workers=2, preload="on").start()
    workers = {worker["pid"] for worker in mgr.workers()}
    children = Path(f"/proc/{mgr.pid}/task/{mgr.pid}/children").read_text().split()
    molds = {int(pid) for pid in children} - workers
    assert len(molds) == 1
    with Load(mgr, "new", 500) as load:
        os.kill(molds.pop(), signal.SIGKILL)
        mgr.must("scale", 4)
        mgr.must("reload")
        report = load.stop()
    assert report["lost"] == 0
    assert len(mgr.workers()) == 4
