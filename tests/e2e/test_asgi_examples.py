"""The ASGI frameworks of examples/, and django by ASGI, as they stand, with Debian's packages."""

import gzip
import hashlib
import json
import socket
import threading
import time

import pytest
from browser import Browser, upload
from metrics_harness import scrape
from mgr_harness import ROOT, Load, copy_tree, no_loss, read_response, wait_for

EXAMPLES = ROOT / "examples"


@pytest.fixture
def start(make_mgr):
    """start("quart", workers=1, …): the example by its mgr.yaml, on a port of its own."""
    def run(name, target=None, workers=2, **settings):
        mgr = make_mgr("echo", target=target, workers=workers, min_ready="200ms", **settings)
        (mgr.directory / "main.py").unlink()
        copy_tree(EXAMPLES / name, mgr.directory)
        return mgr.start()
    return run


def pieces_of(mgr, path):
    """(pieces, seconds from the first to the last) of a response as the socket gives it."""
    with mgr.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        pieces, times = [], []
        while data := connection.recv(65536):
            pieces.append(data)
            times.append(time.monotonic())
    return pieces, times[-1] - times[0]


def numbers(last):
    return "".join(f"{number}\n" for number in range(1, last + 1)).encode()


def assert_streams(mgr, path):
    """The numbers up to 40, one each 10 ms, arrive as they are made, and all of them."""
    pieces, seconds = pieces_of(mgr, path)
    text = b"".join(pieces)
    assert b"transfer-encoding: chunked" in text.lower() and text.endswith(b"40\n\r\n0\r\n\r\n")
    assert len(pieces) >= 10 and seconds > 0.2
    assert Browser(mgr).call(path) == (200, numbers(40))


def assert_digest(browser, path, size):
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    answer = browser.json(path, content, "application/octet-stream", method="PUT")
    assert answer == (200, {"size": size, "sha256": hashlib.sha256(content).hexdigest()})


def assert_digest_of_chunks(mgr, path):
    """A body without a length."""
    with mgr.connect() as connection:
        connection.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        connection.sendall(b"8000\r\n" + b"a" * 0x8000 + b"\r\n")
        connection.sendall(b"3\r\nbcd\r\n0\r\n\r\n")
        answer = json.loads(read_response(connection).body)
    expected = hashlib.sha256(b"a" * 0x8000 + b"bcd").hexdigest()
    assert answer == {"size": 0x8003, "sha256": expected}


def assert_session_outlives_a_reload(mgr):
    browser = Browser(mgr)
    for visit in range(1, 6):
        assert browser.json("/visits", b"") == (200, {"visits": visit})
    mgr.must("reload")
    assert browser.json("/visits", b"") == (200, {"visits": 6})
    assert Browser(mgr).json("/visits", b"") == (200, {"visits": 1})


def assert_broken_is_500_with_one_traceback(mgr):
    assert Browser(mgr).call("/broken")[0] == 500
    wait_for(lambda: "RuntimeError: this ends in the log" in mgr.log, "the traceback")
    assert Browser(mgr).call("/")[0] == 200
    mgr.must("stop")
    assert mgr.wait_exit() == 0
    assert mgr.log.count("RuntimeError: this ends in the log") == 1


def assert_leavers_disturb_nobody(mgr, path):
    """`path` streams for far longer than the test waits for the streams' end."""
    for _ in range(20):
        with mgr.connect() as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(100)
    wait_for(lambda: sum(worker["in_flight"] for worker in mgr.workers()) == 0, "all have ended", 8)


def assert_stops_cleanly(mgr):
    mgr.must("stop")
    assert mgr.wait_exit() == 0
    assert "Traceback" not in mgr.log


def post_json(browser, path, value):
    return browser.json(path, json.dumps(value).encode(), "application/json")


def seconds_of_calls_at_once(mgr, count, path):
    browser, answers = Browser(mgr), []
    threads = [threading.Thread(target=lambda: answers.append(browser.call(path)[0])) for _ in range(count)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * count
    return time.monotonic() - began


# ---- Starlette


def test_starlette_routes_mounts_and_exception_handlers(start):
    mgr = start("starlette")
    browser = Browser(mgr)
    assert browser.json("/hello/w%C3%B6rld") == (200, {"greeting": "Hello, wörld!"})
    assert browser.json("/teapot") == (418, {"error": "no coffee here"})
    assert browser.call("/count/many")[0] == 404
    assert browser.json("/visits") == (405, {"error": "Method Not Allowed"})
    seen = {browser.json("/")[1]["worker"] for _ in range(50)}
    assert seen == {worker["pid"] for worker in mgr.workers()}


def test_starlette_streams_to_a_client_that_has_shut_down_its_own_direction(start):
    mgr = start("starlette", workers=1)
    with mgr.connect() as connection:
        connection.sendall(b"GET /count/200 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert read_response(connection).body == numbers(200)  # 2 s


def test_starlette_middleware_sees_every_response(start):
    mgr = start("starlette")
    browser = Browser(mgr)
    pids = {str(worker["pid"]) for worker in mgr.workers()}
    for path in ("/", "/teapot", "/nothing", "/count/2", "/source"):
        _, fields, _ = browser.open(path)
        assert fields.get_all("X-Worker") is not None and set(fields.get_all("X-Worker")) <= pids, path
    _, plain, body = browser.open("/source")
    _, packed, small = browser.open("/source", headers={"Accept-Encoding": "gzip"})
    assert plain["Content-Encoding"] is None and packed["Content-Encoding"] == "gzip"
    assert len(small) < len(body) and gzip.decompress(small) == body


def test_starlette_sessions_hold_over_workers_and_reloads(start):
    assert_session_outlives_a_reload(start("starlette"))


def test_starlette_background_task_and_state_of_the_lifespan(start):
    mgr = start("starlette", workers=1)
    browser = Browser(mgr)
    assert browser.json("/journal/")[1]["entries"] == []
    assert post_json(browser, "/journal/", {"entry": "tea"}) == (202, {"accepted": "tea"})
    wait_for(lambda: browser.json("/journal/")[1]["entries"] == ["tea"], "the task's entry")
    assert_stops_cleanly(mgr)
    assert "the journal had 1 entries" in mgr.log


def test_starlette_streams_each_way(start):
    mgr = start("starlette")
    assert_streams(mgr, "/count/40")
    for size in (0, 1, 300_000, 20_000_000):
        assert_digest(Browser(mgr), "/digest", size)
    assert_digest_of_chunks(mgr, "/digest")
    assert_leavers_disturb_nobody(mgr, "/count/100000")


def test_starlette_serves_a_file(start):
    mgr = start("starlette")
    status, fields, body = Browser(mgr).open("/source")
    source = (EXAMPLES / "starlette/main.py").read_bytes()
    assert (status, body) == (200, source)
    assert int(fields["Content-Length"]) == len(source) and fields["ETag"]


def test_starlette_exception_is_a_500_and_its_traceback_is_logged(start):
    assert_broken_is_500_with_one_traceback(start("starlette"))


def test_starlette_loses_nothing_while_it_is_reloaded(start):
    mgr = start("starlette")
    kept = Load(mgr, "keep", 100, path="/hello/{id}", connections=8, depth=2)
    new = Load(mgr, "new", 50, path="/hello/{id}")
    with no_loss(kept, new):
        mgr.must("reload")


# ---- Quart


def test_quart_templates_json_and_error_handlers(start):
    mgr = start("quart")
    browser = Browser(mgr)
    status, page = browser.call("/?name=%3Cb%3E")
    assert status == 200 and b"<h1>Hello, &lt;b&gt;!</h1>" in page
    assert browser.json("/hello/w%C3%B6rld") == (200, {"greeting": "Hello, wörld!"})
    assert post_json(browser, "/notes", {"text": ""}) == (400, {"error": "a text is wanted"})
    status, answer = browser.json("/nothing")
    assert status == 404 and "not found" in answer["error"]


def test_quart_sessions_hold_over_workers_and_reloads(start):
    assert_session_outlives_a_reload(start("quart"))


def test_quart_background_task(start):
    mgr = start("quart", workers=1)
    browser = Browser(mgr)
    assert post_json(browser, "/notes", {"text": "tea"}) == (202, {"accepted": "tea"})
    wait_for(lambda: browser.json("/notes")[1]["notes"] == ["tea"], "the task's note")


def test_quart_worker_that_ends_waits_for_its_background_tasks(start):
    mgr = start("quart", workers=1)
    assert post_json(Browser(mgr), "/notes", {"text": "tea"})[0] == 202
    assert_stops_cleanly(mgr)
    assert "the board had" in mgr.log and "noted: tea" in mgr.log


def test_quart_streams_each_way(start):
    mgr = start("quart")
    assert_streams(mgr, "/count/40")
    for size in (0, 1, 300_000, 20_000_000):
        assert_digest(Browser(mgr), "/digest", size)
    assert_digest_of_chunks(mgr, "/digest")
    assert_leavers_disturb_nobody(mgr, "/count/100000")


def test_quart_takes_an_upload_and_refuses_one_that_is_too_long(start):
    mgr = start("quart")
    browser = Browser(mgr)
    assert upload(browser, "a.bin", b"x" * 3_000_000) == (201, {"name": "a.bin", "size": 3_000_000})
    with mgr.connect() as connection:
        connection.sendall(b"PUT /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 67108865\r\n\r\n")
        assert read_response(connection).status == 413


def test_quart_sync_view_runs_in_the_thread_pool(start):
    assert Browser(start("quart")).json("/thread") == (200, {"main_thread": False})


def test_quart_exception_is_a_500_and_its_traceback_is_logged(start):
    assert_broken_is_500_with_one_traceback(start("quart"))


def test_quart_loses_nothing_while_it_is_reloaded(start):
    mgr = start("quart")
    kept = Load(mgr, "keep", 50, path="/hello/{id}", connections=8, depth=2)
    new = Load(mgr, "new", 25, path="/hello/{id}")
    with no_loss(kept, new):
        mgr.must("reload")


# ---- Falcon


@pytest.fixture(params=["asgi", "wsgi"])
def falcon(request, start):
    if request.param == "asgi":
        return start("falcon", workers=1)
    return start("falcon", target="wsgi:application", workers=1, threads=4)


def test_falcon_resources_and_media(falcon):
    browser = Browser(falcon)
    assert browser.json("/items") == (200, {"tea": 3})
    body = json.dumps({"name": "jam", "quantity": 2}).encode()
    status, fields, answer = browser.open("/items", body, "application/json")
    assert (status, fields["Location"]) == (201, "/items/jam")
    assert json.loads(answer) == {"name": "jam", "quantity": 2}
    assert browser.json("/items/jam") == (200, {"name": "jam", "quantity": 2})
    status, fields, _ = browser.open("/items", method="PATCH")
    assert status == 405 and "POST" in fields["Allow"]
    assert browser.call("/items", b"name=jam", "text/csv")[0] == 415
    assert browser.call("/items", b"{", "application/json")[0] == 400
    assert browser.call("/items", b'{"name": "jam"}', "application/json")[0] == 400  # by its schema


def test_falcon_hook_error_handler_and_middleware(falcon):
    browser = Browser(falcon)
    status, fields, body = browser.open("/items/coffee")
    assert (status, json.loads(body)["description"]) == (409, "no coffee is left")
    assert fields["X-Worker"] == str(falcon.workers()[0]["pid"])
    assert browser.json("/items/tea", method="DELETE")[0] == 403
    assert browser.call("/items/tea", method="DELETE", headers={"X-Key": "open sesame"}) == (204, b"")
    assert browser.call("/items/tea")[0] == 409


def test_falcon_reads_a_form_part_by_part(falcon):
    assert upload(Browser(falcon), "file.bin", b"x" * 5_000_000) == (201, {"file.bin": 5_000_000})


def test_falcon_stream_is_complete(falcon):
    status, body = Browser(falcon).call("/count/100")
    assert status == 200 and body.decode().split() == [str(number) for number in range(1, 101)]


def test_falcon_exception_is_a_500_and_its_traceback_is_logged(falcon):
    assert_broken_is_500_with_one_traceback(falcon)


def test_falcon_by_asgi_streams_piece_by_piece(start):
    mgr = start("falcon")
    assert_streams(mgr, "/count/40")
    assert_leavers_disturb_nobody(mgr, "/count/100000")


def test_falcon_sends_server_sent_events(start):
    mgr = start("falcon")
    status, fields, body = Browser(mgr).open("/events?last=3")
    assert (status, fields.get_content_type()) == (200, "text/event-stream")
    events = [dict(line.split(": ", 1) for line in event.split("\n"))
              for event in body.decode().strip().split("\n\n")]
    assert events == [{"event": "tick", "id": str(number), "data": f'{{"number": {number}}}'}
                      for number in (1, 2, 3)]
    pieces, seconds = pieces_of(mgr, "/events?last=40")
    assert len(pieces) >= 10 and seconds > 0.2
    assert_leavers_disturb_nobody(mgr, "/events")  # these have no end of their own
    assert_stops_cleanly(mgr)


def test_falcon_middleware_sees_the_lifespan(start):
    mgr = start("falcon")
    assert_stops_cleanly(mgr)
    assert mgr.log.count("the shop is open") == 2 and mgr.log.count("the shop is closed") == 2


def test_falcon_by_wsgi_sends_a_file(start):
    mgr = start("falcon", target="wsgi:application", threads=2)
    assert Browser(mgr).call("/source") == (200, (EXAMPLES / "falcon/wsgi.py").read_bytes())


# ---- aiohttp's client


@pytest.fixture
def gateway(start):
    """The example and, as the server that it fetches from, examples/starlette."""
    return start_gateway(start)


def start_gateway(start, **env):
    upstream = start("starlette", workers=1)
    mgr = start("aiohttp-client", env={"UPSTREAM": f"http://{upstream.address}", **env})
    mgr.upstream = upstream
    return mgr


def test_aiohttp_fetches_in_a_handler(gateway):
    browser = Browser(gateway)
    assert browser.json("/fetch/hello/tea") == (200, {"greeting": "Hello, tea!"})
    assert browser.json("/fetch/teapot") == (418, {"error": "no coffee here"})
    assert browser.json("/fetch-all?path=/count/3&path=/count/10&path=/count/0") == \
        (200, {"sizes": [6, 21, 0]})


def test_aiohttp_fetches_side_by_side(gateway):
    began = time.monotonic()
    query = "&".join(["path=/count/60"] * 20)  # 0.6 s each, 12 s one after the other
    assert Browser(gateway).json(f"/fetch-all?{query}") == (200, {"sizes": [len(numbers(60))] * 20})
    assert time.monotonic() - began < 5


def test_aiohttp_relays_an_answer_piece_by_piece(gateway):
    assert_streams(gateway, "/relay/count/40")
    assert_leavers_disturb_nobody(gateway, "/relay/count/100000")
    wait_for(lambda: gateway.upstream.workers()[0]["in_flight"] == 0, "the other server is left too", 8)


def test_aiohttp_forwards_a_body_as_it_arrives(gateway):
    for size in (0, 1, 300_000, 20_000_000):
        assert_digest(Browser(gateway), "/forward/digest", size)
    assert_digest_of_chunks(gateway, "/forward/digest")


def test_aiohttp_says_that_the_other_server_takes_too_long_or_is_gone(start):
    gateway = start_gateway(start, UPSTREAM_TIMEOUT="1")
    browser = Browser(gateway)
    assert browser.json("/fetch/count/100000") == (504, {"error": "the other server took too long"})
    gateway.upstream.must("stop")
    assert gateway.upstream.wait_exit() == 0
    status, answer = browser.json("/fetch/hello/tea")
    assert status == 502 and "the other server failed" in answer["error"]


def test_aiohttp_session_lasts_for_the_workers_life_and_is_closed(gateway):
    browser = Browser(gateway)
    accepted = accepted_by(gateway.upstream)
    for number in range(30):
        assert browser.json(f"/fetch/hello/{number}")[0] == 200
    # One connection for each worker, kept alive.
    wait_for(lambda: accepted_by(gateway.upstream) > accepted, "the connections are counted")
    assert accepted_by(gateway.upstream) - accepted <= 2
    gateway.must("reload")
    assert browser.json("/fetch/hello/again")[0] == 200
    assert_stops_cleanly(gateway)
    assert gateway.log.count("the session is closed") == 4 and "Unclosed" not in gateway.log


def accepted_by(mgr):
    return scrape(mgr)("mgr_connections_accepted_total")


def test_aiohttp_loses_nothing_while_it_is_reloaded(gateway):
    kept = Load(gateway, "keep", 40, path="/fetch/hello/{id}", connections=8, depth=2)
    new = Load(gateway, "new", 20, path="/fetch/hello/{id}")
    with no_loss(kept, new):
        gateway.must("reload")


# ---- Django by ASGI


@pytest.fixture
def django(start):
    return start("django", target="main:asgi_application")


def add_item(browser, name):
    return browser.call("/items", f"name={name}".encode(), "application/x-www-form-urlencoded")


def test_django_by_asgi_has_a_database_that_all_workers_share(django):
    browser = Browser(django)
    assert add_item(browser, "")[0] == 400
    for number in range(5):
        assert add_item(browser, f"tea{number}")[0] == 201
    for _ in range(10):
        assert [item["name"] for item in browser.json("/items")[1]] == [f"tea{n}" for n in range(5)]
    workers = {browser.json("/")[1]["worker"] for _ in range(40)}
    assert workers == {worker["pid"] for worker in django.workers()} and len(workers) == 2


def test_django_by_asgi_has_sessions_over_workers_and_reloads(django):
    assert_session_outlives_a_reload(django)


@pytest.mark.parametrize("size", [0, 10, 200_000, 20_000_000])
def test_django_by_asgi_takes_an_upload_and_gives_it_back(django, size):
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    browser = Browser(django)
    assert upload(browser, "file.bin", content) == (201, {"name": "file.bin", "size": size})
    assert browser.call("/files/file.bin") == (200, content)
    assert browser.call("/files/other")[0] == 404


def test_django_by_asgi_streams(django):
    pieces, _ = pieces_of(django, "/export?rows=5000")
    text = b"".join(pieces)
    assert b"transfer-encoding: chunked" in text.lower() and text.endswith(b"0\r\n\r\n")
    status, body = Browser(django).call("/export?rows=5000")
    lines = body.decode().splitlines()
    assert status == 200 and len(lines) == 5000 and lines[-1] == "4999,item 4999"


def test_django_by_asgi_runs_async_views_side_by_side(start):
    mgr = start("django", target="main:asgi_application", workers=1)
    assert seconds_of_calls_at_once(mgr, 10, "/pause?seconds=1") < 4


def test_django_by_asgi_answers_an_exception_with_500_and_logs_its_traceback(django):
    assert_broken_is_500_with_one_traceback(django)
