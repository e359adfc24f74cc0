"""Why a worker died is told: out of memory, by a core dump; and what a crash loop of one slot means."""

import contextlib
import re
from pathlib import Path

import pytest
from memory_cgroup import MemoryCgroup
from metrics_harness import scrape
from mgr_harness import read_response, wait_for

MEBIBYTE = 1 << 20


@pytest.fixture
def limited(make_mgr):
    """limited(megabytes, app, …): a Mgr in a memory cgroup of its own."""
    groups, made = [], []

    def make(megabytes, app="failures", **settings):
        groups.append(MemoryCgroup(megabytes * MEBIBYTE))
        if not groups[-1].made:
            pytest.skip("no memory cgroup can be made here")
        made.append(make_mgr(app, command_prefix=groups[-1].prefix, **settings))
        return made[-1]

    yield make
    for mgr in made:
        mgr.end()
    for group in groups:
        wait_for(lambda group=group: not (group.directory / "cgroup.procs").read_text(), "the group is empty")
        group.remove()


def end_worker(mgr, slot, path):
    """Asks the worker of this slot for something that ends it."""
    pid = wait_for(lambda: pid_of(mgr, slot), "a worker is ready")

    def asked():
        with mgr.connect() as connection:
            connection.sendall(b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n")
            if int(read_response(connection).body) != pid:
                return False
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            with contextlib.suppress(OSError, AssertionError):
                read_response(connection)
            return True

    wait_for(asked, "a connection to that worker")
    wait_for(lambda: pid_of(mgr, slot) != pid, "it is gone")
    return pid


def pid_of(mgr, slot):
    return next(worker["pid"] for worker in mgr.status_now()["workers"] if worker["slot"] == slot)


def last_exit(mgr, slot=0):
    return mgr.status_now()["workers"][slot]["last_exit"]


def test_a_worker_that_runs_out_of_memory_is_told_as_that(limited):
    mgr = limited(160, workers=2, preload="on").start()
    end_worker(mgr, 1, "/memory_of_small_pieces")
    wait_for(lambda: last_exit(mgr, 1), "its end is told")
    assert "OOM killer: out of memory" in last_exit(mgr, 1)
    assert "OOM killer: out of memory" in mgr.log
    numbers = scrape(mgr)
    assert numbers("mgr_worker_restarts_total", reason="oom") == 1
    assert numbers("mgr_worker_restarts_total", reason="killed") == 0
    assert mgr.get("/pid")[0] == 200


def test_automatic_workers_leave_room_for_what_the_application_loads(limited):
    mgr = limited(190, workers="auto", preload="on")
    mgr.deploy_text((mgr.directory / "main.py").read_text() + "\nballast = bytes(range(256)) * 4 * 50000\n")
    mgr.start()
    assert mgr.status()["target_workers"] == 1
    mgr.must("scale", 2)
    assert len(mgr.workers()) == 2, "somebody who asks for more gets them"
    mgr.must("reload")
    assert len(mgr.workers()) == 2


def test_the_path_of_a_core_dump_is_told(make_mgr):
    mgr = make_mgr("failures", workers=1, preload="on",
                   command_prefix=["prlimit", "--core=unlimited:unlimited"]).start()
    pid = end_worker(mgr, 0, "/segmentation_fault")
    how = wait_for(lambda: last_exit(mgr), "its end is told")
    assert how.startswith("killed by signal 11")
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith("|"):
        assert f"coredumpctl info {pid}" in how or pattern[1:].split()[0] in how
    else:
        core = Path(how.partition("core dumped: ")[2])
        assert core.is_absolute() and core.read_bytes()[:4] == b"\x7fELF", how
        core.unlink()
    assert how in mgr.log


def test_one_slot_in_a_crash_loop_means_degraded_and_the_other_serves_on(make_mgr):
    mgr = make_mgr("failures", workers=2, preload="on", crash_backoff="3s..10s").start()
    for _ in range(2):
        end_worker(mgr, 1, "/exit_at_once")
    wait_for(lambda: mgr.status_now()["state"] == "degraded", "degraded")
    worker = mgr.status_now()["workers"][1]
    assert worker["state"] == "backoff" and 0 < worker["retry_s"] <= 3
    assert "backoff" in mgr.must("status") and "exit status 7; next in" in mgr.must("status")
    assert "ready, degraded: 1 of 2 workers are in a crash loop; last end of worker 1: exit status 7" in \
        mgr.must("ready")
    status, text, _ = mgr.api("GET", "/readyz")
    assert status == 200 and "degraded" in text
    numbers = scrape(mgr)
    assert numbers("mgr_degraded") == 1 and numbers("mgr_ready") == 1
    assert numbers("mgr_workers", state="backoff") == 1
    pause = float(re.search(r"worker 1 .*; a new one starts in ([0-9.]+) s", mgr.log)[1])
    assert 2.4 <= pause <= 3, "the first pause, without at most a fifth"
    for _ in range(20):
        assert mgr.get("/pid") == (200, b"%d" % pid_of(mgr, 0))
    wait_for(lambda: mgr.status_now()["state"] == "running", "it has come back and lived", 20)
    assert scrape(mgr)("mgr_degraded") == 0
