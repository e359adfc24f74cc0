"""The extensions of ASGI's HTTP that are announced, over the wire."""

import ast
import os

import pytest

import mold_harness
from conftest import APPS


@pytest.fixture(scope="module")
def mold(python, tmp_path_factory):
    with mold_harness.Mold(tmp_path_factory.mktemp("extensions"), "extensions:app", python=python,
                           python_path=[APPS]) as mold:
        mold.only_worker = mold.serving_worker()
        yield mold


@pytest.fixture
def worker(mold):
    return mold.only_worker


def everything(worker, path, *fields, version=b"1.1"):
    """All bytes of the answer on a connection of its own."""
    lines = [b"GET /%s HTTP/%s" % (path, version), b"Host: a", b"Connection: close", *fields]
    connection = worker.raw(b"\r\n".join(lines) + b"\r\n\r\n")
    data = b""
    while part := connection.recv(65536):
        data += part
    connection.close()
    return data


TAKES_TRAILERS = b"TE: trailers"


def test_C9_extensions_are_announced_in_a_fresh_dict(worker):
    for _ in range(2):
        found = ast.literal_eval(worker.request(path="/announced")[1].decode())
        assert found == {"http.response.early_hint": {}, "http.response.trailers": {},
                         "http.response.pathsend": {}, "http.response.zerocopysend": {}}


def test_early_hint_is_a_response_103_for_each_message_ahead_of_the_response(worker):
    data = everything(worker, b"hints")
    first, second, response = data.split(b"\r\n\r\n", 2)
    assert first == (b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n"
                     b"Link: </b.js>; rel=preload")
    assert second == b"HTTP/1.1 103 Early Hints\r\nLink: </c.css>; rel=preload"
    assert response.startswith(b"HTTP/1.1 200 OK\r\n") and response.endswith(b"\r\n\r\nhinted")


def test_early_hint_is_not_sent_to_a_client_of_http_1_0(worker):
    assert everything(worker, b"hints", version=b"1.0").startswith(b"HTTP/1.1 200 OK\r\n")


def test_early_hint_leaves_the_response_open_to_become_a_500(worker):
    data = everything(worker, b"hint-then-fail")
    assert data.startswith(b"HTTP/1.1 103 ") and b"\r\n\r\nHTTP/1.1 500 " in data


def test_early_hint_that_is_no_list_of_bytes_raises_from_send(worker):
    assert worker.request(path="/bad-hints") == (
        200, b"['KeyError', 'TypeError', 'TypeError', 'ValueError']")


def test_trailers_follow_the_body_for_a_client_that_takes_them(worker):
    data = everything(worker, b"trailers", TAKES_TRAILERS)
    assert b"\r\ntrailer: x-sum, x-end\r\n" in data
    assert data.endswith(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nx-sum: 3\r\nx-end: 1\r\n\r\n")


def test_trailers_are_awaited_and_dropped_for_a_client_that_does_not_take_them(worker):
    connection = worker.connection()
    for _ in range(2):
        connection.request("GET", "/trailers")
        assert connection.getresponse().read() == b"abc"
    connection.close()
    assert everything(worker, b"trailers").endswith(b"\r\n1\r\nc\r\n0\r\n\r\n")


def test_trailers_are_dropped_where_the_body_is_not_chunked(worker):
    assert everything(worker, b"trailers-with-length", TAKES_TRAILERS).endswith(b"\r\n\r\nabc")
    data = everything(worker, b"trailers", TAKES_TRAILERS, version=b"1.0")
    assert data.endswith(b"\r\n\r\nabc")


def test_trailers_that_never_come_leave_the_response_incomplete(mold, worker):
    data = everything(worker, b"trailers-missing", TAKES_TRAILERS)
    assert data.endswith(b"\r\n3\r\nabc\r\n")
    mold.wait_for_log("GET /trailers-missing: the application returned without completing")


def test_trailers_out_of_order_raise_from_send(worker):
    data = everything(worker, b"trailers-out-of-order", TAKES_TRAILERS)
    assert b"['RuntimeError', 'RuntimeError', 'RuntimeError']" in data
    assert data.endswith(b"x-raised: ['RuntimeError', 'TypeError', 'ValueError']\r\n\r\n")
    assert worker.request(path="/trailers-not-announced") == (200, b"['RuntimeError']")


BIG = b"0123456789abcdef" * (3_000_000 // 16)


def test_pathsend_sends_a_file_and_completes_the_response(worker):
    connection = worker.connection()
    for _ in range(2):
        connection.request("GET", "/path")
        response = connection.getresponse()
        assert response.read() == b"0123456789abcdef" * 10
        assert response.headers["content-type"] == "text/x-test"
    for path, content in (("/path-without-length", b"0123456789abcdef"), ("/empty-path", b"")):
        connection.request("GET", path)
        response = connection.getresponse()
        assert (response.headers["content-length"], response.read()) == (str(len(content)), content)
    connection.request("HEAD", "/path")
    response = connection.getresponse()
    assert (response.headers["content-length"], response.read()) == ("160", b"")
    connection.close()


def test_pathsend_of_a_large_file_waits_for_the_client(worker):
    connection = worker.raw(b"GET /huge-path HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    head = connection.recv(1 << 20)
    assert worker.request(path="/result?huge") == (200, b"")
    received = len(head.partition(b"\r\n\r\n")[2])
    while part := connection.recv(1 << 20):
        received += len(part)
    connection.close()
    assert received == 64 << 20
    mold_harness.wait_until(lambda: worker.request(path="/result?huge")[1] == b"sent", "send() returned")


def test_pathsend_wakes_the_receive_that_waits_for_the_end(worker):
    assert worker.request(path="/path-and-a-wait") == (200, BIG)
    mold_harness.wait_until(lambda: worker.request(path="/result?after")[1] == b"http.disconnect",
                            "receive() returned")


def test_pathsend_that_cannot_be_raises_from_send_and_leaves_the_response_open(mold, worker):
    assert worker.request(path="/bad-paths") == (200, b"0123456789abcdef")
    raised = ast.literal_eval(worker.request(path="/result?raised")[1].decode())
    assert raised == ["RuntimeError", "KeyError", "TypeError", "ValueError", "FileNotFoundError",
                      "IsADirectoryError", "OSError", "ValueError", "RuntimeError", "RuntimeError"]
    assert worker.request(path="/path-after-body") == (200, b"begun['RuntimeError']")


def test_pathsend_may_be_followed_by_trailers(worker):
    data = everything(worker, b"path-with-trailers", TAKES_TRAILERS)
    assert data.endswith(b"\r\n\r\n10\r\n0123456789abcdef\r\n0\r\nx-sum: 3\r\n\r\n")


def test_zerocopysend_takes_offset_and_count_and_mixes_with_bodies(worker):
    assert worker.request(path="/zero-copy") == (200, b"<ef0123456|abf")
    assert worker.request(path="/result?position")[1] == b"7"


def test_zerocopysend_of_large_files_arrives_whole(worker):
    assert worker.request(path="/zero-copy-big") == (200, BIG + BIG + b"end")


def test_zerocopysend_raises_an_oserror_once_the_client_is_gone(mold, worker):
    connection = worker.raw(b"GET /zero-copy-until-lost HTTP/1.1\r\nHost: a\r\n\r\n")
    connection.recv(1000)
    connection.close()
    mold_harness.wait_until(lambda: worker.request(path="/result?lost")[1] == b"ClientDisconnected",
                            "send() raised")
    assert "/zero-copy-until-lost" not in mold.log()


def test_zerocopysend_of_what_is_no_file_raises_from_send(worker):
    status, body = worker.request(path="/bad-zero-copies")
    assert (status, ast.literal_eval(body.decode())) == (200, [
        "RuntimeError", "KeyError", "TypeError", "ValueError", "ValueError", "TypeError", "OSError",
        "OSError"])


def test_nothing_is_left_open_or_unhandled(mold, worker):
    mold_harness.wait_until(lambda: worker.counters()["in_flight"] == 0, "nothing in flight")
    left = [os.readlink(f"/proc/{worker.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{worker.pid}/fd")]
    assert [path for path in left if path.startswith(mold.directory + "/tmp")] == []
    assert "never retrieved" not in mold.output() and "Exception ignored" not in mold.output()
