"""The C++ examples as a user builds them: projects of their own, against the installed mgr. Once more with
each sanitizer, whose runtime mgr-worker gets by `env: LD_PRELOAD`."""

import http.client
import json
import os
import subprocess
import time
from pathlib import Path

import mgr_harness
import pytest
from mgr_harness import ROOT, Load, no_loss, wait_for

BUILD = Path(os.environ["BUILD_DIR"])
HERE = BUILD / "native-examples"  # stays, so that the next run builds what has changed alone
RUNTIMES = {"address,undefined": ["libasan.so", "libubsan.so"], "thread": ["libtsan.so"]}
FAULTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer",
          "FATAL: ThreadSanitizer", "runtime error:")


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def installed():
    prefix = HERE / "installed"
    run("cmake", "--install", BUILD, "--prefix", prefix)
    return prefix


def build(installed, example, sanitizer=""):
    directory = HERE / (sanitizer or "plain") / example
    flags = "-Wall -Wextra -Werror" + (f" -fsanitize={sanitizer}" if sanitizer else "")
    run("cmake", "-S", ROOT / "examples" / example, "-B", directory, "-G", "Ninja",
        f"-DCMAKE_BUILD_TYPE={'Debug' if sanitizer else 'Release'}",
        f"-DCMAKE_PREFIX_PATH={installed}", f"-DCMAKE_CXX_FLAGS={flags}")
    run("cmake", "--build", directory)
    return directory / f"{example.replace('-', '_')}.so"


def runtimes(sanitizer):
    """Where the compiler has the sanitizer's libraries."""
    compiler = os.environ.get("CXX", "c++")
    return [run(compiler, f"-print-file-name={name}").strip() for name in RUNTIMES[sanitizer]]


@pytest.fixture(scope="module", params=["", *RUNTIMES], ids=["plain", "address", "thread"])
def built(request, installed):
    """(hello.so, json_api.so, settings): both examples, and what a sanitizer needs."""
    libraries = [build(installed, name, request.param) for name in ("hello", "json-api")]
    if not request.param:
        return *libraries, {}
    # Its own threads and large address space are the sanitizer's, not the application's.
    return *libraries, {"env": f"LD_PRELOAD={':'.join(runtimes(request.param))}", "preload": "on"}


@pytest.fixture
def serve(make_mgr, installed, monkeypatch):
    """serve(library, **settings): the installed mgr serves it; no sanitizer may have complained."""
    monkeypatch.setattr(mgr_harness, "MGR", str(installed / "bin" / "mgr"))
    started = []

    def start(library, settings, **more):
        mgr = make_mgr(target=str(library), workers=2, min_ready="100ms", **more)
        mgr.settings |= settings
        started.append((mgr, settings))
        return mgr.start(seconds=60)

    yield start
    for mgr, settings in started:
        if settings:
            for worker in mgr.workers():
                assert sanitizer_of(worker["pid"]) in settings["env"], "the sanitizer is not there"
        assert [worker["restarts"] for worker in mgr.workers()] == [0] * 2
        mgr.must("stop")
        assert mgr.wait_exit(60) == 0
        found = [fault for fault in FAULTS if fault in mgr.log]
        assert not found, mgr.log[-6000:]
        left = [line for line in mgr.log.splitlines() if " left: " in line]
        assert left and all("exit status 0" in line for line in left), left


def sanitizer_of(pid):
    maps = Path(f"/proc/{pid}/maps").read_text()
    return next((name for name in ("libasan.so", "libtsan.so") if name in maps), "none")


def ask(mgr, method, path, body=None, kind="application/json"):
    host, port = mgr.address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    headers = {} if body is None else {"content-type": kind}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    assert response.headers["content-type"] == "application/json", (response.status, text)
    return response.status, json.loads(text)


def test_hello_answers_with_the_path_across_reloads(serve, built):
    hello, _, settings = built
    mgr = serve(hello, settings)
    assert mgr.get("/you%21") == (200, b"hello /you!\n")
    load = Load(mgr, "keep", 200, connections=8, verify=False, expect_body_prefix="hello /")
    with no_loss(load):
        mgr.must("reload")


def test_items_are_added_found_and_refused(serve, built):
    _, json_api, settings = built
    mgr = serve(json_api, settings)
    mgr.must("scale", 1)
    assert ask(mgr, "GET", "/items") == (200, [])
    tea = {"id": 1, "name": "tea ☕", "price": 3.5}
    assert ask(mgr, "POST", "/items", json.dumps({"name": "tea ☕", "price": 3.5})) == (201, tea)
    assert ask(mgr, "GET", "/items/1") == (200, tea)
    assert ask(mgr, "GET", "/items") == (200, [tea])
    assert ask(mgr, "GET", "/items/2") == (404, {"error": "no such item"})
    assert ask(mgr, "GET", "/items/x") == (404, {"error": "no such item"})
    assert ask(mgr, "GET", "/nothing") == (404, {"error": "no such resource"})
    assert ask(mgr, "DELETE", "/items") == (405, {"error": "allowed: GET, POST"})
    mgr.must("scale", 2)


@pytest.mark.parametrize("body, kind, status, answer", [
    ("{", "application/json", 400, {"error": "the body is no JSON"}),
    ("", "application/json", 400, {"error": "the body is no JSON"}),
    ("[]", "application/json", 422, {"error": "the item is not valid",
                                     "fields": {"": "expected an object"}}),
    ('{"name": "", "colour": 1}', "application/json", 422,
     {"error": "the item is not valid", "fields": {"name": "expected a text of 1 to 100 bytes",
                                                   "price": "is missing", "colour": "is not known"}}),
    ("name=tea", "application/x-www-form-urlencoded", 415,
     {"error": "expected content-type: application/json"}),
    ("[" + "1," * 40_000 + "1]", "application/json", 413,
     {"error": "the body is larger than 64 kB"}),
], ids=["broken", "empty", "array", "fields", "form", "large"])
def test_a_body_that_is_not_valid_is_refused(serve, built, body, kind, status, answer):
    _, json_api, settings = built
    mgr = serve(json_api, settings)
    assert ask(mgr, "POST", "/items", body, kind) == (status, answer)


def test_primes_are_counted_on_the_pool_while_other_requests_are_served(serve, built):
    _, json_api, settings = built
    mgr = serve(json_api, settings)
    assert ask(mgr, "GET", "/primes/100") == (200, {"up_to": 100, "primes": 25})
    for wrong in ("-1", "x", "100000001", ""):
        assert ask(mgr, "GET", f"/primes/{wrong}")[0] == 422
    load = Load(mgr, "keep", 50, connections=4, path="/primes/1000", verify=False,
                expect_body_prefix='{"primes":168')
    with no_loss(load):
        assert ask(mgr, "GET", "/primes/500000") == (200, {"up_to": 500000, "primes": 41538})


def test_events_come_one_by_one_and_end_with_their_client(serve, built):
    _, json_api, settings = built
    mgr = serve(json_api, settings)
    began = time.monotonic()
    status, text = mgr.get("/events?count=3&interval=50")
    assert time.monotonic() - began >= 0.15
    assert status == 200
    assert text == b"".join(b'id: %d\ndata: {"tick":%d}\n\n' % (i, i) for i in (1, 2, 3))
    with mgr.connect() as client:
        client.sendall(b"GET /events?interval=20 HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b""
        while b"id: 5\n" not in received:
            received += client.recv(4096)
        assert b"content-type: text/event-stream" in received
    wait_for(lambda: all(worker["in_flight"] == 0 for worker in mgr.status_now()["workers"]),
             "the stream has ended with its client")
