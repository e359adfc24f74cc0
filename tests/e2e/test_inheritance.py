"""What mgr is started with, however odd: closed descriptors, blocked signals, narrow limits."""

import os
import re
import signal
import subprocess
import sys

import pytest
from mgr_harness import MGR, wait_for

CLOSED = "import os, sys; [os.close(int(fd)) for fd in sys.argv[1].split(',')]; os.execv(sys.argv[2], sys.argv[2:])"
BLOCKED = ("import os, signal, sys; signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals()); "
           "os.execv(sys.argv[1], sys.argv[1:])")


def descriptors(pid):
    return {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}


@pytest.mark.parametrize("closed", ["0", "1", "2", "0,1", "1,2", "0,1,2"])
def test_closed_standard_descriptors_do_not_become_something_else(make_mgr, tmp_path, closed):
    mgr = make_mgr("echo", workers=1, min_ready="50ms", log_file=tmp_path / "own.log",
                   command_prefix=[sys.executable, "-c", CLOSED, closed]).start()
    for pid in (mgr.pid, mgr.workers()[0]["pid"]):
        for fd in closed.split(","):
            assert descriptors(pid)[int(fd)].startswith(("/dev/null", "pipe:")), descriptors(pid)
    mgr.must("reload")
    mgr.process.send_signal(signal.SIGTERM)
    assert mgr.wait_exit() == 0, (tmp_path / "own.log").read_text()


@pytest.mark.parametrize("closed", ["0,1,2", "2"])
def test_so_for_a_check(make_mgr, closed):
    mgr = make_mgr("echo")
    done = subprocess.run([sys.executable, "-c", CLOSED, closed, MGR, "check", "main:app", "--python",
                           "/usr/bin/python3"], cwd=mgr.directory, env=mgr.environment, timeout=60)
    assert done.returncode == 0


def test_signals_that_were_blocked_are_obeyed(make_mgr):
    mgr = make_mgr("echo", workers=1, min_ready="50ms",
                   command_prefix=[sys.executable, "-c", BLOCKED]).start()
    os.kill(mgr.workers()[0]["pid"], signal.SIGKILL)
    wait_for(lambda: mgr.workers()[0]["restarts"] == 1 and mgr.workers()[0]["state"] == "ready", "a new worker")
    mgr.process.send_signal(signal.SIGHUP)
    wait_for(lambda: mgr.status()["generation"] == 2, "the reload")
    mgr.must("upgrade")
    mgr.process.send_signal(signal.SIGTERM)
    assert mgr.wait_exit() == 0


def test_a_log_that_may_not_grow_ends_nothing(make_mgr, tmp_path):
    log = tmp_path / "own.log"
    log.write_text("x" * (4 << 20))
    mgr = make_mgr("echo", workers=1, min_ready="50ms", log_file=log,
                   command_prefix=["prlimit", f"--fsize={4 << 20}"]).start()
    mgr.must("scale", 2)
    mgr.must("reload")
    assert mgr.get("/x")[0] == 200 and log.stat().st_size == 4 << 20
    mgr.must("stop")
    assert mgr.wait_exit() == 0


def test_too_few_descriptors_for_a_scale_are_told_and_the_way_back_is_open(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="50ms", command_prefix=["prlimit", "--nofile=200:200"]).start()
    done = mgr.run("scale", "150")
    assert done.returncode == 1, done
    assert re.search(r"refused: workers: 150: Too many open files: \d+ more, \d+ are open, and the limit is 200 ",
                     done.stderr), done
    assert mgr.status()["target_workers"] == 2
    mgr.must("scale", 20)
    mgr.must("reload")
    assert mgr.get("/x")[0] == 200


def test_workers_that_can_not_be_started_for_want_of_descriptors_are_told_too(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="50ms").start()
    opened = len(descriptors(mgr.pid))
    subprocess.run(["prlimit", f"--pid={mgr.pid}", f"--nofile={opened + 26}:{opened + 300}"], check=True)
    done = mgr.run("restart")
    assert done.returncode == 1 and "could not be started: Too many open files" in done.stderr, done
    subprocess.run(["prlimit", f"--pid={mgr.pid}", f"--nofile={opened + 300}:{opened + 300}"], check=True)
    mgr.must("restart")
    assert mgr.get("/x")[0] == 200


@pytest.mark.parametrize("limit", [8, 16, 30])
def test_too_few_for_a_start_are_told(make_mgr, limit):
    mgr = make_mgr("echo", workers=1, command_prefix=["prlimit", f"--nofile={limit}:{limit}"]).launch()
    assert mgr.wait_exit(20) == 1, mgr.log
    assert "cannot start: workers: 1: Too many open files: 5 more" in mgr.log
    assert f"the limit is {limit} (RLIMIT_NOFILE, ulimit -n)" in mgr.log
