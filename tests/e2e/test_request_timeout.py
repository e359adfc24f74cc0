"""The setting `request_timeout`: one request ends with 504, and nothing else does."""

import os
import shutil
import time
from pathlib import Path

import pytest
from metrics_harness import scrape
from mgr_harness import alive, read_response, wait_for

LIBRARIES = Path(os.environ["BUILD_DIR"]) / "tests/e2e/native"

APP = '''
import asyncio

async def app(scope, receive, send):
    assert scope["type"] == "http"
    path = scope["path"]
    try:
        if path == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        if path == "/receive":
            while True:
                await receive()
        if path != "/quick":
            await asyncio.sleep(float(scope["query_string"] or b"60"))
    except BaseException as exception:
        print(f"{path} ended by {type(exception).__name__}", flush=True)
        if path == "/stubborn":
            await asyncio.sleep(0.2)
            print("stubborn goes on", flush=True)
        elif path == "/other":
            raise RuntimeError("of its own")
        elif path != "/swallow":
            raise
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": path.encode()})
    print(f"{path} came to its end", flush=True)
'''


@pytest.fixture
def make_timed(make_mgr):
    def make(**settings):
        mgr = make_mgr(**{"workers": 1, "request_timeout": "500ms", "lifespan": "off", **settings})
        mgr.deploy_text(APP)
        return mgr.start()
    return make


def timeouts(mgr):
    return scrape(mgr)("mgr_http_request_timeouts_total")


def test_a_request_that_takes_too_long_is_504_and_its_task_is_cancelled(make_timed):
    mgr = make_timed()
    with mgr.connect() as connection:
        began = time.monotonic()
        connection.sendall(b"GET /slow?60 HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = read_response(connection)
        assert 0.4 < time.monotonic() - began < 10
        assert answer.status == 504 and answer.body == b"Gateway Timeout"
        # The same connection goes on.
        connection.sendall(b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(connection).body == b"/quick"
    wait_for(lambda: "/slow ended by CancelledError" in mgr.log, "cancelled")
    lines = [line for line in mgr.log.splitlines() if "GET /slow?60" in line]
    assert len(lines) == 1, lines
    assert "[warning] GET /slow?60: no complete response within request_timeout: answered with 504" in lines[0]
    assert "Traceback" not in mgr.log
    assert timeouts(mgr) == 1
    wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 0, "over")


def test_a_response_that_has_begun_is_cut(make_timed):
    mgr = make_timed()
    with mgr.connect() as connection:
        connection.sendall(b"GET /begun HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while data := connection.recv(65536):
            received += data
    assert b"5\r\nbegun\r\n" in received and not received.endswith(b"0\r\n\r\n")
    wait_for(lambda: "/begun ended by CancelledError" in mgr.log, "cancelled")
    assert "GET /begun: no complete response within request_timeout: the connection is cut" in mgr.log
    assert timeouts(mgr) == 1


def test_a_request_that_waits_for_its_body_is_cancelled_too(make_timed):
    mgr = make_timed()
    assert mgr.get("/receive")[0] == 504
    wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 0, "over")


@pytest.mark.parametrize("path", ["/swallow", "/stubborn"])
def test_what_the_application_sends_after_its_cancellation_goes_nowhere(make_timed, path):
    mgr = make_timed()
    with mgr.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert read_response(connection).status == 504
        wait_for(lambda: f"{path} came to its end" in mgr.log, "its end")
        connection.sendall(b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(connection).body == b"/quick"
    assert "application failed" not in mgr.log and timeouts(mgr) == 1


def test_an_exception_of_its_own_is_still_logged(make_timed):
    mgr = make_timed()
    assert mgr.get("/other")[0] == 504
    wait_for(lambda: "GET /other: the application failed" in mgr.log, "logged")
    assert "RuntimeError: of its own" in mgr.log


def test_what_is_in_time_is_not_touched_and_others_serve_on(make_timed):
    mgr = make_timed(request_timeout="1s")
    with mgr.connect() as slow, mgr.connect() as quick:
        slow.sendall(b"GET /slow?60 HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(5):
            quick.sendall(b"GET /in-time?0.3 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_response(quick).body == b"/in-time"
        assert read_response(slow).status == 504
    assert timeouts(mgr) == 1


def test_without_it_a_request_may_take_as_long_as_it_likes(make_timed):
    mgr = make_timed(request_timeout="0")
    assert mgr.get("/slow?1.5") == (200, b"/slow")
    assert timeouts(mgr) == 0


@pytest.mark.parametrize("preload", ["on", "off"])
def test_a_c_plus_plus_call_ends_where_it_stands(make_mgr, preload, tmp_path):
    mgr = make_mgr(target="app.so", workers=1, request_timeout="500ms", preload=preload)
    shutil.copyfile(LIBRARIES / "echo.so", mgr.directory / "app.so")
    mgr.start()
    trace = tmp_path / "trace"
    with mgr.connect() as connection:
        connection.sendall(f"GET /hang?{trace} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert read_response(connection).status == 504
        wait_for(lambda: trace.exists(), "its destructors ran")
        connection.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(connection).body == b"echo /x"
    assert mgr.get(f"/watch?{trace}")[0] == 504
    assert mgr.get("/slow?100") == (200, b"echo /slow")
    assert timeouts(mgr) == 2
    wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 0, "over")
    assert mgr.log.count("no complete response within request_timeout") == 2


WSGI = '''
import time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/body":
        environ["wsgi.input"].read()
    if path == "/stuck":
        time.sleep(float(environ["QUERY_STRING"] or 60))
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/begun":
        return begun()
    print(f"{path} came to its end", flush=True)
    return [path.encode()]

def begun():
    yield b"begun"
    time.sleep(1.5)
    yield b"never sent"
    print("the rest was asked for", flush=True)
'''


@pytest.fixture
def make_wsgi(make_mgr):
    def make(**settings):
        mgr = make_mgr(**{"workers": 1, "threads": 2, "request_timeout": "500ms", "min_ready": "100ms",
                          "graceful_timeout": "1s", **settings})
        mgr.deploy_text(WSGI)
        return mgr.start()
    return make


def test_a_wsgi_thread_goes_on_while_its_client_has_504(make_wsgi):
    mgr = make_wsgi()
    pid = mgr.workers()[0]["pid"]
    with mgr.connect() as connection:
        connection.sendall(b"GET /stuck?2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(connection).status == 504
        assert "/stuck came to its end" not in mgr.log
        # The connection goes on, on another thread.
        connection.sendall(b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(connection).body == b"/quick"
    wait_for(lambda: "/stuck came to its end" in mgr.log, "its end")
    wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 0, "over")
    assert mgr.log.count("no complete response within request_timeout: answered with 504") == 1
    assert timeouts(mgr) == 1 and mgr.workers()[0]["pid"] == pid
    assert "broken off" not in mgr.log and "application failed" not in mgr.log


def test_a_wsgi_response_that_has_begun_is_cut(make_wsgi):
    mgr = make_wsgi()
    with mgr.connect() as connection:
        connection.sendall(b"GET /begun HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while data := connection.recv(65536):
            received += data
    assert b"5\r\nbegun\r\n" in received and b"never sent" not in received
    wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 0, "over")
    assert "the rest was asked for" not in mgr.log and "broken off" not in mgr.log


def test_a_worker_whose_wsgi_threads_are_all_stuck_is_replaced_first(make_wsgi):
    mgr = make_wsgi(request_timeout="300ms")
    old = mgr.workers()[0]["pid"]
    with mgr.connect() as one, mgr.connect() as two:
        for connection in (one, two):
            connection.sendall(b"GET /stuck?60 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [read_response(each).status for each in (one, two)] == [504, 504]
    wait_for(lambda: mgr.status_now()["workers"][0]["pid"] not in (old, None), "replaced")
    assert mgr.get("/quick") == (200, b"/quick")
    assert f"worker 0 (pid {old}, generation 1) has reached request_timeout: all 2 threads are stuck" in mgr.log
    wait_for(lambda: not alive(old), "the old one has left")
    # Threads that are stuck for good can't leave; that is the more serious reason.
    wait_for(lambda: scrape(mgr)("mgr_worker_restarts_total", reason="graceful_timeout") == 1, "counted")
    assert mgr.get("/quick") == (200, b"/quick")


def test_threads_that_wait_for_their_clients_are_not_stuck(make_wsgi):
    mgr = make_wsgi(threads=2, body_timeout="30s")
    pid = mgr.workers()[0]["pid"]
    with mgr.connect() as one, mgr.connect() as two:
        for connection in (one, two):
            connection.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\nabc")
        assert [read_response(each).status for each in (one, two)] == [504, 504]
    assert mgr.get("/quick") == (200, b"/quick")
    time.sleep(1.5)  # longer than all threads must be stuck
    assert mgr.workers()[0]["pid"] == pid and "are stuck" not in mgr.log


def test_a_wsgi_application_on_the_loops_own_thread_answers_late_all_the_same(make_wsgi):
    mgr = make_wsgi(threads=1)
    assert mgr.get("/stuck?1") == (200, b"/stuck")  # the loop does not turn meanwhile: nobody can say 504
    assert mgr.get("/quick") == (200, b"/quick")
    assert "[warning] GET /stuck?1: answered after more than request_timeout, as the loop was blocked" in mgr.log
    assert timeouts(mgr) == 1


def test_a_negative_one_is_refused(make_mgr):
    mgr = make_mgr(workers=1, request_timeout="-1s").launch()
    assert mgr.wait_exit() == 78
    assert "--request-timeout: '-1s' is no duration (such as 500ms, 30s, 5m, 2h); allowed: 0s to 24h" in mgr.log
