"""PEP 3333, by the names of the project's checklist, over the wire; with one thread and with a pool."""

import json
import os
import pathlib
import re
import signal
import socket
import threading
import time

import pytest

import mold_harness
from conftest import APPS, INTERPRETERS
from mold_harness import read_all

THREADS = (1, 4)


@pytest.fixture(params=[(python, threads) for python in sorted(INTERPRETERS) for threads in THREADS],
                ids=lambda pair: f"{pair[0]}-threads-{pair[1]}", scope="module")
def mold(request, tmp_path_factory):
    version, threads = request.param
    with mold_harness.Mold(tmp_path_factory.mktemp("wsgi"), "wsgi_cases:app",
                           python=INTERPRETERS[version], python_path=[APPS], threads=threads,
                           body_timeout="1s", write_timeout="20s") as mold:
        mold.threads = threads
        mold.only_worker = mold.serving_worker()
        yield mold


@pytest.fixture
def worker(mold):
    return mold.only_worker


@pytest.fixture(scope="module")
def pool(python, tmp_path_factory):
    """A worker with a pool of threads, for what one thread can't do."""
    with mold_harness.Mold(tmp_path_factory.mktemp("pool"), "wsgi_cases:app", python=python,
                           python_path=[APPS], threads=4) as mold:
        yield mold.serving_worker()


def ask(worker, request):
    """The whole answer on a connection of its own, which ends after it."""
    with worker.raw(request.replace(b"\r\n\r\n", b"\r\nHost: a\r\nConnection: close\r\n\r\n", 1)) as link:
        return read_all(link)


def state(worker, key):
    return worker.json(path=f"/state?{key}")


def wait_for_state(worker, key, accept):
    mold_harness.wait_until(lambda: accept(state(worker, key)), f"state {key!r}")
    return state(worker, key)


def environ_of(worker, headers=None, path="/environ", **named):
    return worker.json(path=path, headers=headers, **named)["environ"]


def read(connection, text):
    data = b""
    while text not in data:
        part = connection.recv(65536)
        assert part, data
        data += part
    return data


# ---- environ

def test_p1_environ_is_a_builtin_dict_of_each_request(worker):
    for _ in range(2):
        found = worker.json(path="/environ")
        assert found["type"] == "dict" and found["fresh"]


def test_p2_what_must_be_in_environ_is_there(worker):
    environ = environ_of(worker, {"X-Own": "1", "Accept": "*/*"}, "/environ?a=b&c")
    assert environ["REQUEST_METHOD"] == "GET" and environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/environ" and environ["QUERY_STRING"] == "a=b&c"
    assert environ["SERVER_NAME"] == "127.0.0.1" and environ["SERVER_PORT"] == str(worker.port)
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1" and environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["REMOTE_PORT"].isdigit() and environ["SERVER_SOFTWARE"] == "mgr"
    assert environ["RAW_URI"] == "/environ?a=b&c"
    assert environ["HTTP_X_OWN"] == "1" and environ["HTTP_ACCEPT"] == "*/*"
    assert "CONTENT_LENGTH" not in environ and "HTTP_CONTENT_LENGTH" not in environ
    assert environ_of(worker)["QUERY_STRING"] == ""
    posted = environ_of(worker, {"Content-Type": "text/x"}, method="POST", body=b"abc")
    assert posted["CONTENT_LENGTH"] == "3" and posted["CONTENT_TYPE"] == "text/x"
    assert "HTTP_CONTENT_TYPE" not in posted and posted["REQUEST_METHOD"] == "POST"
    old = ask(worker, b"GET /environ HTTP/1.0\r\n\r\n")
    assert b'"SERVER_PROTOCOL": "HTTP/1.0"' in old


def test_p3_values_are_native_strings_of_the_bytes(worker):
    raw = ask(worker, b"GET /%65nviron%2F HTTP/1.1\r\nX-Bytes: \xe9\xff\r\n\r\n")
    environ = json.loads(raw.partition(b"\r\n\r\n")[2])["environ"]
    assert environ["HTTP_X_BYTES"] == "\xe9\xff"
    assert environ["PATH_INFO"] == "/environ/" and environ["RAW_URI"] == "/%65nviron%2F"
    types = worker.json(path="/environ")["types"]
    assert {types[key] for key in types if key.isupper()} == {"str"}


def test_p3_a_path_is_decoded_to_latin_1_and_a_query_is_not(worker):
    environ = environ_of(worker, path="/environ/%C3%A9?x=%C3%A9")
    assert environ["PATH_INFO"] == "/environ/\xc3\xa9" and environ["QUERY_STRING"] == "x=%C3%A9"


def test_p4_wsgi_variables_have_the_right_types_and_true_values(mold, worker):
    found = worker.json(path="/environ")
    environ, types = found["environ"], found["types"]
    assert environ["wsgi.version"] == [1, 0] and types["wsgi.version"] == "tuple"
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.multithread"] is (mold.threads > 1)
    assert environ["wsgi.multiprocess"] is True and environ["wsgi.run_once"] is False
    assert environ["wsgi.input_terminated"] is True
    assert types["wsgi.file_wrapper"] == "type"


def test_the_forwarding_policy_is_that_of_asgi(worker):
    environ = environ_of(worker, {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https",
                                  "Forwarded": "for=1.2.3.4"})
    assert environ["REMOTE_ADDR"] == "203.0.113.9" and environ["wsgi.url_scheme"] == "https"
    assert "REMOTE_PORT" not in environ
    assert environ["HTTP_X_FORWARDED_FOR"] == "203.0.113.9"


def test_a_field_name_with_an_underscore_never_reaches_environ(worker):
    raw = ask(worker, b"GET /environ HTTP/1.1\r\nX_Forwarded_For: 1.2.3.4\r\nX-Real: 1\r\n\r\n")
    environ = json.loads(raw.partition(b"\r\n\r\n")[2])["environ"]
    assert "HTTP_X_FORWARDED_FOR" not in environ and environ["HTTP_X_REAL"] == "1"


def test_repeated_fields_are_joined(worker):
    raw = ask(worker, b"GET /environ HTTP/1.1\r\nAccept: a\r\nX-Two: 1\r\nCookie: a=1\r\nAccept: b\r\n"
                      b"X-Two: 2\r\nCookie: b=2\r\n\r\n")
    environ = json.loads(raw.partition(b"\r\n\r\n")[2])["environ"]
    assert (environ["HTTP_ACCEPT"], environ["HTTP_X_TWO"], environ["HTTP_COOKIE"]) == \
        ("a,b", "1,2", "a=1; b=2")


def test_the_server_as_the_target_of_options_is_below_no_root(mold_of_test, tmp_path):
    (tmp_path / "main.py").write_text('''
def app(environ, start_response):
    start_response("200 OK", [])
    return [repr((environ["SCRIPT_NAME"], environ["PATH_INFO"])).encode()]
''')
    worker = mold_of_test("main:app", interface="wsgi", root_path="/api").serving_worker()
    for head, expected in ((b"GET /a", ("/api", "/a")), (b"OPTIONS *", ("", "*"))):
        raw = ask(worker, head + b" HTTP/1.1\r\n\r\n")
        assert eval(raw.partition(b"\r\n\r\n")[2]) == expected


@pytest.mark.parametrize("threads", THREADS)
def test_root_path_is_script_name_and_a_unix_socket_takes_its_name_from_host(mold_of_test, tmp_path,
                                                                             threads):
    running = mold_of_test("wsgi_cases:app", threads=threads, root_path="/api", python_path=[APPS])
    worker = running.ready_worker()
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    worker.listen(listener=listener)
    for host, expected in ((b"example.com:81", ("example.com", "81")), (b"x", ("x", "80"))):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(path)
            link.sendall(b"GET /environ HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
            environ = json.loads(read_all(link).partition(b"\r\n\r\n")[2])["environ"]
        assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == expected
        assert environ["SCRIPT_NAME"] == "/api" and environ["PATH_INFO"] == "/environ"
        assert environ["REMOTE_ADDR"] == "" and "REMOTE_PORT" not in environ


@pytest.fixture
def mold_of_test(tmp_path):
    started = []

    def start(name, **settings):
        started.append(mold_harness.Mold(tmp_path, name, python="/usr/bin/python3", **settings))
        return started[-1]

    yield start
    for each in started:
        each.close()


# ---- wsgi.input

def test_p5_input_reads_as_files_do_and_ends_with_the_body(worker):
    body = b"one\ntwo\nthree"

    def calls(query, body=body):
        return worker.json("POST", f"/read?{query}", body)

    assert calls("read+read") == ["one\ntwo\nthree", ""]
    assert calls("read3+read0+read-1+read5") == ["one", "", "\ntwo\nthree", ""]
    assert calls("readline+readline2+readline+readline+readline") == ["one\n", "tw", "o\n", "three", ""]
    assert calls("readlines+readlines") == [["one\n", "two\n", "three"], []]
    assert calls("readlines5+read") == [["one\n", "two\n"], "three"]
    assert calls("readsize=3+readlinesize=2+readlineshint=1+read") == ["one", "\n", ["two\n"], "three"]
    assert calls("iter+read1") == [["one\n", "two\n", "three"], ""]
    assert calls("read", b"") == [""]
    assert worker.json("GET", "/read?read+readline+iter") == ["", "", []]


def test_p5_input_of_a_chunked_body_is_terminated(worker):
    with worker.raw(b"POST /read?readline+read HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n") as link:
        link.sendall(b"5\r\n\ntwo\n\r\n0\r\n\r\n")
        assert read_all(link).endswith(b'["one\\n", "two\\n"]')


def test_p5_reading_never_goes_beyond_the_body_into_the_next_request(worker):
    request = b"POST /read?read HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    with worker.raw(request * 2) as link:
        assert read(link, b'["abc"]').count(b"HTTP/1.1") >= 1


def test_p5_input_streams_with_back_pressure(worker):
    """A client that is much faster than the application is stopped."""
    total, sent = 16 << 20, 0
    with worker.raw(b"POST /count?0.01 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: "
                    b"%d\r\n\r\n" % total) as link:
        link.setblocking(False)
        block = b"x" * 65536
        stalls = 0
        deadline = time.monotonic() + 30
        while sent < total and time.monotonic() < deadline:
            try:
                sent += link.send(block[:total - sent])
            except BlockingIOError:
                stalls += 1
                time.sleep(0.001)
        link.settimeout(20)
        assert read_all(link).endswith(b"%d" % total)
        assert stalls > 10


def test_p5_a_large_upload_does_not_sit_in_memory(mold, worker):
    def rss():
        with open(f"/proc/{worker.pid}/status") as file:
            return int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1))

    with open(f"/proc/{worker.pid}/maps") as file:
        if "libasan" in file.read():
            pytest.skip("the address sanitizer keeps what was freed; the release build is measured")
    worker.json("POST", "/count", b"x")
    before = rss()
    assert worker.json("POST", "/count", b"x" * (64 << 20)) == 64 << 20
    assert rss() - before < 8 << 10


def test_p5_a_line_is_given_before_the_rest_of_the_body_comes(worker):
    with worker.raw(b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n") as link:
        read(link, b"one\n")
        link.sendall(b"4\r\ntwo\n\r\n")
        read(link, b"two\n")
        link.sendall(b"0\r\n\r\n")
        assert read_all(link).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("how", ["leaves", "is-silent"])
def test_p5_a_client_that_does_not_send_its_body_is_an_os_error(worker, how):
    worker.json(path="/read-later")
    link = worker.raw(b"POST /read-fails?%s HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n"
                      b"Expect: 100-continue\r\n\r\n" % how.encode())
    with link:
        read(link, b"100 Continue")  # the application reads: not gone before it is called
        link.sendall(b"abc")
        if how == "leaves":
            link.close()
        else:
            assert b" 408 " in read_all(link)
        assert wait_for_state(worker, f"read-{how}", bool) == "ConnectionError"
        assert worker.json(path="/pid") == worker.pid


def test_p5_a_short_body_holds_no_thread_while_it_comes(mold, worker):
    slow = [worker.raw(b"POST /read?read HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
            for _ in range(8)]
    assert worker.json(path="/pid") == worker.pid
    for link in slow:
        with link:
            link.sendall(b"cd")
            read(link, b'["abcd"]')


def test_p5_an_unread_body_does_not_disturb_the_next_request(worker):
    connection = worker.connection()
    for _ in range(3):
        connection.request("POST", "/ignore-body", b"x" * 1000)
        assert connection.getresponse().read() == b'"ignored"'
    connection.close()


def test_p5_input_and_start_response_of_an_earlier_request_are_over(worker):
    worker.json("POST", "/read-later", b"abc")
    assert worker.json(path="/use-later")[1] == "RuntimeError"


def test_p15_100_continue_is_sent_when_the_body_is_first_read(worker):
    head = b"POST /%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    with worker.raw(head % b"read?read") as link:
        assert read(link, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(b"abc")
        assert read_all(link).endswith(b'["abc"]')
    with worker.raw(head % b"ignore-body") as link:
        assert b" 100 " not in read_all(link)


# ---- wsgi.errors

def test_p6_errors_come_out_in_whole_lines(mold, worker):
    worker.json(path="/errors")
    mold_harness.wait_until(lambda: "first line\nsecond line\nthird line\nno end" in mold.output(),
                            "the lines in the output")


# ---- start_response

def test_p7_bad_heads_are_refused_when_they_are_given(worker):
    found = worker.json(path="/bad-heads")
    types = ("status is bytes", "headers are a tuple", "header is a list", "header of three",
             "name is bytes", "value is a number")
    assert {name: error for name, error in found.items() if name in types} == \
        dict.fromkeys(types, "TypeError")
    rest = {error for name, error in found.items() if name not in types}
    assert rest == {"ValueError"}, found
    said = "start_response(): a character outside of latin-1 in the "
    assert state(worker, "refused-value").startswith(said + "header ('a', '\u20ac') (PEP 3333")
    assert state(worker, "refused-name").startswith(said + "header ('\u20ac', 'b') (PEP 3333")
    assert state(worker, "refused-status").startswith(said + "status '200 \u20ac' (PEP 3333")


def test_p7_start_response_gives_write(worker):
    assert worker.request(path="/write") == (200, b"written, twice, and returned")
    assert worker.request(path="/write-too-much") == (200, b"abc")
    assert state(worker, "write") == "write() beyond the Content-Length"


def test_p8_p9_the_head_waits_for_the_first_bytes_and_can_be_replaced_until_then(worker):
    raw = ask(worker, b"GET /head-kept-back HTTP/1.1\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 404 Gone Astray\r\n")
    assert b"X-Head: second" in raw and b"first" not in raw and b"replaced" in raw


def test_p9_a_second_start_response_without_exc_info_is_an_error(worker):
    assert worker.request(path="/twice") == (200, b"RuntimeError")


def test_p9_with_exc_info_after_the_head_the_exception_is_raised_again(mold, worker):
    raw = ask(worker, b"GET /raised-again HTTP/1.1\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 200 OK") and not raw.endswith(b"0\r\n\r\n")
    assert state(worker, "raised") == "'after the head'"
    mold.wait_for_log("KeyError: 'after the head'")


def test_p10_start_response_may_come_with_the_first_item(worker):
    raw = ask(worker, b"GET /late-start HTTP/1.1\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 201 Created\r\n") and b"X-Late: yes" in raw


def test_p10_a_body_without_start_response_is_500(mold, worker):
    assert worker.request(path="/no-start")[0] == 500
    mold.wait_for_log("did not call start_response()")


# ---- the body

def test_p11_each_item_is_sent_before_the_next_is_asked_for(pool):
    with pool.raw(b"GET /one-by-one HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") as link:
        read(link, b"first ")
        pool.json(path="/go-on")
        assert b"second" in read_all(link)
    assert state(pool, "waited") is True


def test_p11_each_item_is_sent_before_the_next_is_asked_for_on_the_loops_thread(worker):
    with worker.raw(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nfirst\n") as link:
        read(link, b"first\n")
        link.sendall(b"second\n")
        read(link, b"second\n")


def test_p11_empty_items_are_allowed_and_send_nothing(worker):
    assert worker.request(path="/items") == (200, b"abc")


@pytest.mark.parametrize("case, reason", [("text-items", "made of bytes, not 'text'"),
                                          ("returns-none", "returned None")])
def test_p11_what_is_not_bytes_is_an_error(mold, worker, case, reason):
    assert worker.request(path=f"/{case}")[0] == 500
    mold.wait_for_log(reason)


def closes(worker, key):
    return [event for event in state(worker, key) or [] if event.startswith("close")]


@pytest.mark.parametrize("kind", ["whole", "raises", "endless"])
def test_p12_close_is_always_called_once(worker, kind):
    with worker.raw(b"GET /tracked?%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                    % kind.encode()) as link:
        if kind == "endless":
            read(link, b"xxx")
        else:
            read_all(link)
    mold_harness.wait_until(lambda: closes(worker, kind), f"close() of {kind}")
    assert len(closes(worker, kind)) == 1


def test_p18_call_items_and_close_are_on_one_thread(mold, worker):
    for _ in range(8):
        worker.request(path="/tracked?whole")
        wait_for_state(worker, "whole", lambda events: len(events) == 4)
        assert len({event.rsplit(" ", 1)[1] for event in state(worker, "whole")}) == 1
    thread = worker.json(path="/thread")
    assert thread["main"] is (mold.threads == 1)
    if mold.threads > 1:
        assert re.fullmatch(r"mgr wsgi [0-3]", thread["name"])
        tasks = pathlib.Path(f"/proc/{worker.pid}/task").glob("*/comm")
        assert {f"mgr wsgi {number}" for number in range(4)} <= {task.read_text().strip() for task in tasks}


def test_p13_content_length_is_computed_for_one_item(worker):
    assert b"Content-Length: 5\r\n" in ask(worker, b"GET /sized HTTP/1.1\r\n\r\n")
    assert b"Content-Length: 0\r\n" in ask(worker, b"GET /length? HTTP/1.1\r\n\r\n")


def test_p13_never_more_than_content_length_is_sent(mold, worker):
    connection = worker.connection()
    for _ in range(2):
        connection.request("GET", "/length?3,ab,cd,ef")
        assert connection.getresponse().read() == b"abc"
    connection.close()
    mold.wait_for_log("the body is longer than its Content-Length of 3")


def test_p13_the_iterable_is_exhausted_though_the_response_is_complete(worker):
    assert worker.request(path="/length?3,abc") == (200, b"abc")
    assert wait_for_state(worker, "after", bool) is True


def test_p13_a_short_body_ends_the_connection_and_is_logged(mold, worker):
    raw = ask(worker, b"GET /length?5,ab HTTP/1.1\r\n\r\n")
    assert raw.endswith(b"\r\n\r\nab") and b"Content-Length: 5" in raw
    mold.wait_for_log("the body is shorter than its Content-Length: 2 of 5 bytes")


@pytest.mark.parametrize("status", [204, 304])
def test_p14_204_and_304_have_no_body(worker, status):
    connection = worker.connection()
    for _ in range(2):
        connection.request("GET", f"/status?{status}")
        response = connection.getresponse()
        assert response.status == status and response.read() == b""
        assert response.getheader("Content-Length") is None
    connection.close()


def test_p14_head_has_the_fields_and_no_body(worker):
    for path, length in (("/items", None), ("/sized", "5"), ("/status?200", "6")):
        connection = worker.connection()
        for _ in range(2):
            connection.request("HEAD", path)
            response = connection.getresponse()
            assert (response.read(), response.getheader("Content-Length")) == (b"", length)
        connection.close()


def test_p14_status_and_fields_are_sent_as_they_are(worker):
    raw = ask(worker, b"GET /status?299 HTTP/1.1\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 299 Whatever It Is\r\n")
    assert b"X-Own: \xe9\r\n" in raw and b"\r\nDate: mine\r\n" in raw and b"Server: mgr\r\n" in raw


def test_http_1_0_gets_a_stream_without_chunks(worker):
    raw = ask(worker, b"GET /items HTTP/1.0\r\n\r\n")
    assert raw.endswith(b"\r\n\r\nabc") and b"chunked" not in raw


@pytest.mark.parametrize("size, items", [(300000, 1), (65536, 1), (65537, 3), (1000, 1000), (4 << 20, 3)])
def test_large_bodies_arrive_whole(worker, size, items):
    status, body = worker.request(path=f"/large?{size},{items}")
    assert status == 200 and len(body) == size * items and body.count(b"x") == len(body)


def test_slow_clients_of_whole_responses_hold_no_thread(worker):
    slow = []
    for _ in range(8):
        link = worker.raw(b"GET /large?16000000,1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        read(link, b"\r\n\r\n")
        slow.append(link)
    assert worker.json(path="/pid") == worker.pid
    for link in slow:
        with link:
            assert len(read_all(link)) > 15000000
    wait_for_state(worker, "one-item", bool)


# ---- wsgi.file_wrapper

@pytest.mark.parametrize("kind, expected", [
    ("whole", b"0123456789" * 100000), ("tail", b"0123456789"), ("length", b"567"),
    ("buffered", (b"0123456789" * 100000)[3:]), ("empty", b""),
    ("no-descriptor", b"0123456789" * 100000), ("foreign", b"0123456789" * 100000),
    ("middleware", b"o123456789" * 100000)])
def test_p16_file_wrapper_sends_the_file_from_its_position_and_closes_it(worker, kind, expected):
    assert worker.request(path=f"/file?{kind}") == (200, expected)
    mold_harness.wait_until(lambda: worker.json(path="/file-closed"), "the file is closed")


def test_p16_a_file_shorter_than_content_length_is_an_error(mold, worker):
    assert worker.request(path="/file?short")[0] == 500
    mold.wait_for_log("the file is shorter than the Content-Length: 1000000 of 1000001")


def test_p16_a_file_is_closed_when_the_client_leaves(worker):
    with worker.raw(b"GET /file?whole HTTP/1.1\r\nHost: a\r\n\r\n") as link:
        read(link, b"0123456789")
    mold_harness.wait_until(lambda: worker.json(path="/file-closed"), "the file is closed")


# ---- failures

@pytest.mark.parametrize("name", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_p17_an_exception_before_anything_was_sent_is_500_and_ends_nothing_else(mold, worker, name):
    assert worker.request(path=f"/raises?{name}") == (500, b"Internal Server Error")
    mold.wait_for_log(f"{name}: on purpose")
    records = re.findall(rf"\[error\] GET /raises\?{name}: the application failed\nTraceback", mold.log())
    assert len(records) == 1
    assert "mgr_host" not in mold.log()
    assert worker.json(path="/pid") == worker.pid


def test_p17_an_exception_after_the_beginning_ends_the_connection(mold, worker):
    raw = ask(worker, b"GET /raises-late HTTP/1.1\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 200 OK") and raw.endswith(b"\r\n\r\nbegun")
    mold.wait_for_log("ValueError: in the middle")


def test_p17_an_exception_in_close_is_logged_and_the_response_stands(mold, worker):
    assert worker.request(path="/raises-in-close") == (200, b"fine")
    mold.wait_for_log("ValueError: in close")


def test_p19_wsgiref_validate_finds_nothing(mold, worker):
    assert worker.request("POST", "/valid", b"body", {"Content-Type": "text/plain"}) == \
        (200, b"valid: body.")
    assert worker.request("GET", "/valid") == (200, b"valid: .")
    assert "AssertionError" not in mold.log()


# ---- threads and the worker's life

def test_the_scoreboard_says_how_many_threads_of_the_pool_are_busy(pool):
    before = pool.counters()
    assert before["threads"] == 4
    mold_harness.wait_until(lambda: pool.counters()["threads_running"] == 0, "no request runs")
    with pool.raw(b"GET /slow?0.5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") as link:
        mold_harness.wait_until(lambda: pool.counters()["threads_running"] == 1, "it runs")
        assert read_all(link).endswith(b'"slept"')
    mold_harness.wait_until(lambda: pool.counters()["threads_running"] == 0, "it runs no more")
    assert pool.counters()["threads_busy_ns"] - before["threads_busy_ns"] >= 500_000_000


def test_requests_that_wait_do_so_side_by_side(pool):
    began = time.monotonic()
    threads = [threading.Thread(target=pool.request, kwargs={"path": "/slow?0.5"}) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert time.monotonic() - began < 1.5


def test_where_requests_compute_one_that_waits_stops_no_other(pool):
    """A pool that the GIL keeps busy wakes no further thread, unless its queue stands still."""
    answered, over = [], threading.Event()

    def compute():
        while not over.is_set():
            assert pool.request(path="/computes?0.0005")[0] == 200
            answered.append(time.monotonic())

    threads = [threading.Thread(target=compute) for _ in range(8)]
    for each in threads:
        each.start()
    mold_harness.wait_until(lambda: len(answered) > 300, "the pool computes")
    began = time.monotonic()
    waiting = [pool.raw(b"GET /slow?1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
               for _ in range(3)]
    for link in waiting:
        with link:
            assert read_all(link).endswith(b'"slept"')
    ended = time.monotonic()
    over.set()
    for each in threads:
        each.join()
    assert ended - began < 2.5
    meanwhile = [at for at in answered if began < at < ended]
    assert max(after - before for before, after in zip([began, *meanwhile], [*meanwhile, ended])) < 0.5


def test_more_requests_than_threads_wait_in_order(worker):
    links = [worker.raw(b"GET /slow?0.02 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
             for _ in range(20)]
    for link in links:
        with link:
            assert read_all(link).endswith(b'"slept"')


def test_idle_connections_hold_no_thread(worker):
    idle = []
    for _ in range(20):
        connection = worker.connection()
        connection.request("GET", "/pid")
        connection.getresponse().read()
        idle.append(connection)
    assert worker.json(path="/pid") == worker.pid
    for connection in idle:
        connection.request("GET", "/pid")
        assert json.loads(connection.getresponse().read()) == worker.pid
        connection.close()


def test_pipelined_requests_are_answered_in_order(worker):
    with worker.raw(b"GET /pid HTTP/1.1\r\nHost: a\r\n\r\n" * 20
                    + b"GET /sized HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") as link:
        raw = read_all(link)
    assert raw.count(b"HTTP/1.1 200 OK") == 21 and raw.endswith(b"\r\n\r\nsized")


def test_the_application_may_run_a_loop_of_its_own(worker):
    assert worker.json(path="/runs-a-loop") == "from a coroutine"


def test_in_flight_counts_requests_until_close_has_returned(worker):
    mold_harness.wait_until(lambda: worker.counters()["in_flight"] == 0, "nothing in flight")
    with worker.raw(b"GET /slow?0.3 HTTP/1.1\r\nHost: a\r\n\r\n"):
        mold_harness.wait_until(lambda: worker.counters()["in_flight"] == 1, "one in flight")
    mold_harness.wait_until(lambda: worker.counters()["in_flight"] == 0, "nothing in flight")


@pytest.mark.parametrize("threads", THREADS)
def test_a_drain_finishes_what_is_in_flight(mold_of_test, threads):
    running = mold_of_test("wsgi_cases:app", threads=threads, python_path=[APPS])
    worker = running.serving_worker()
    with worker.raw(b"GET /slow?0.5 HTTP/1.1\r\nHost: a\r\n\r\n") as link:
        mold_harness.wait_until(lambda: worker.counters()["in_flight"] == 1, "one in flight")
        worker.drain()
        raw = read_all(link)
    assert raw.endswith(b'"slept"') and (threads == 1 or b"Connection: close" in raw)
    assert worker.wait() == 0


def test_a_stuck_thread_does_not_keep_the_worker_from_leaving(mold_of_test):
    running = mold_of_test("wsgi_cases:app", threads=4, python_path=[APPS], graceful_timeout="1s")
    worker = running.serving_worker()
    with worker.raw(b"GET /slow?60 HTTP/1.1\r\nHost: a\r\n\r\n"):
        mold_harness.wait_until(lambda: worker.counters()["in_flight"] == 1, "one in flight")
        began = time.monotonic()
        worker.drain(timeout_ms=300)
        assert worker.wait() == 0
        assert time.monotonic() - began < 5
    assert re.search(r"ended without waiting for what still runs: .*mgr wsgi \d", running.log())


@pytest.mark.parametrize("threads", THREADS)
def test_a_worker_without_preload_loads_and_serves_the_application(mold_of_test, threads):
    running = mold_of_test("wsgi_cases:app", threads=threads, python_path=[APPS], load=False)
    assert running.loaded()["interface"] == ""
    worker = running.fork()
    assert worker.ready()["interface"] == "wsgi"
    worker.listen()
    assert worker.json(path="/pid") == worker.pid


def test_asyncio_run_in_a_request_brings_no_warning_of_its_handler_of_sigint(app, mold_of_test):
    app("import asyncio, signal\n"
        "def app(environ, start_response):\n"
        "    asyncio.run(asyncio.sleep(0))\n"
        "    start_response('200 OK', [])\n"
        "    if environ['PATH_INFO'] == '/own':\n"
        "        signal.signal(signal.SIGINT, print)\n"
        "    return [b'ran']\n")
    running = mold_of_test("main:app", threads=1)
    worker = running.serving_worker()
    assert worker.request() == (200, b"ran")
    assert "handler is not used" not in running.log()
    assert worker.request(path="/own") == (200, b"ran")
    running.wait_for_log("SIGINT: the application's handler is not used")


@pytest.mark.parametrize("threads", THREADS)
def test_python_signal_handlers_run_at_once(app, mold_of_test, threads):
    app("import os, signal, time\nseen = []\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [str(len(seen)).encode()]\n"
        "signal.signal(signal.SIGUSR1, lambda *_: seen.append(1) or open('seen', 'w').close())\n")
    running = mold_of_test("main:app", threads=threads)
    worker = running.serving_worker()
    worker.request()
    os.kill(worker.pid, signal.SIGUSR1)
    mold_harness.wait_until(lambda: os.path.exists(os.path.join(running.directory, "seen")),
                            "the handler has run", timeout=2)
    assert worker.request() == (200, b"1")
