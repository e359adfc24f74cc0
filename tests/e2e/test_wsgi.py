"""WSGI applications behind the whole of mgr: reloads, crashes, checks."""

import json
import subprocess

import pytest
from mgr_harness import MGR, Load, no_loss, wait_for

THREADS = pytest.mark.parametrize("threads", [1, 4])
PRELOAD = pytest.mark.parametrize("preload", ["on", "off"])


def loads(mgr, rate, **options):
    return (Load(mgr, "new", rate, **options), Load(mgr, "keep", rate, connections=16, depth=4, **options))


@THREADS
@PRELOAD
def test_reloads_under_load_lose_nothing(make_mgr, threads, preload):
    mgr = make_mgr("wsgi", workers=2, threads=threads, preload=preload, min_ready="200ms").start()
    with no_loss(*loads(mgr, 500, expect_body_prefix="echo /echo/r")):
        for _ in range(8):
            mgr.must("reload")
    status = mgr.status()
    assert status["reloads"] == 8 and status["last_reload"]["ok"] is True
    assert [worker["restarts"] for worker in status["workers"]] == [0, 0]


@THREADS
def test_posts_and_streams_survive_reloads(make_mgr, threads):
    mgr = make_mgr("wsgi", workers=2, threads=threads, min_ready="100ms").start()
    posts = Load(mgr, "keep", 50, path="/post", verify=False, body_size=300000, connections=8,
                 expect_body_prefix="got 300000")
    streams = Load(mgr, "new", 50, path="/stream?20", verify=False,
                   expect_body_prefix="part 0\npart 1\n")
    with no_loss(posts, streams):
        for _ in range(4):
            mgr.must("reload")


def test_requests_in_flight_are_finished_by_the_old_generation(make_mgr):
    mgr = make_mgr("wsgi", workers=2, threads=16, min_ready="100ms").start()
    with no_loss(Load(mgr, "new", 10, path="/slow?1", verify=False, expect_body_prefix="slow")):
        for _ in range(3):
            mgr.must("reload")
            assert sum(worker["in_flight"] for worker in mgr.status_now()["leaving"]) > 0
    wait_for(lambda: not mgr.status()["leaving"], "the old workers have left")


@THREADS
def test_a_worker_that_dies_in_a_request_is_replaced(make_mgr, threads):
    mgr = make_mgr("wsgi", workers=1, threads=threads, crash_backoff="10ms..1s").start()
    _, before = mgr.get("/pid")
    with mgr.connect() as link:
        link.sendall(b"GET /die HTTP/1.1\r\nHost: a\r\n\r\n")
        assert link.recv(1000) == b""
    wait_for(lambda: mgr.workers()[0]["restarts"] == 1 and mgr.workers()[0]["state"] == "ready",
             "the worker is replaced")
    assert mgr.get("/pid")[1] != before
    assert "exit status 7" in json.dumps(mgr.workers())


@THREADS
def test_a_stop_is_graceful(make_mgr, threads):
    mgr = make_mgr("wsgi", workers=1, threads=threads).start()
    with mgr.connect() as link:
        link.sendall(b"GET /slow?0.5 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 1, "one in flight")
        mgr.must("stop")
        assert link.recv(4096).endswith(b"slow")
    assert mgr.wait_exit() == 0


def test_check_loads_a_wsgi_application_and_says_what_it_can_not_tell(make_mgr):
    mgr = make_mgr("wsgi")

    def check(*more):
        return subprocess.run([MGR, "check", "main:app", "--python", "/usr/bin/python3", *more],
                              cwd=mgr.directory, env=mgr.environment, capture_output=True, text=True,
                              timeout=60)

    assert check().returncode == 0
    mgr.deploy_text("def app(*arguments): pass\n")
    done = check()
    assert done.returncode == 4
    assert "set `interface` to say how it is called" in done.stderr + done.stdout
    assert check("--interface", "wsgi").returncode == 0
