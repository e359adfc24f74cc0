"""ASGI's core and HTTP rules, by the names of the project's checklist, over the wire."""

import http.client
import json
import re
import socket
import time

import pytest

import mold_harness
from conftest import APPS
from mold_harness import read_all


@pytest.fixture(scope="module")
def mold(python, tmp_path_factory):
    with mold_harness.Mold(tmp_path_factory.mktemp("asgi"), "cases:app", python=python,
                           python_path=[APPS], body_timeout="10s") as mold:
        mold.only_worker = mold.serving_worker()
        yield mold


@pytest.fixture
def worker(mold):
    return mold.only_worker


def state(worker, key):
    mold_harness.wait_until(lambda: key in worker.json(path="/state-of"), f"state {key!r}")
    return worker.json(path="/state-of")[key]


def test_C1_the_application_is_called_once_per_request_on_the_main_thread_in_a_task(worker):
    assert worker.json(path="/scope")["main_thread"] is True
    found = worker.json(path="/task")
    assert found["is_task"] and found["listed"] and found["coroutine"] and found["loop"]
    assert found["repr"]


def test_C2_scope_is_a_fresh_dict_with_the_versions(worker):
    scope = worker.json(path="/scope")["scope"]
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert worker.json(path="/scope-is-fresh") is False
    assert worker.json(path="/scope-is-fresh") is False


def test_C3_scope_and_messages_hold_plain_values_alone(worker):
    assert worker.json("POST", "/only-plain-values/a?b=c", b"x" * 100_000, {"X-A": "1"}) == []
    assert state(worker, "foreign") == []


def test_C7_messages_after_the_end_do_nothing_and_wrong_ones_still_raise(mold, worker):
    assert worker.request(path="/after-the-end") == (200, b"the end")
    assert state(worker, "after_the_end") == [None, None, None, None, None, "RuntimeError"]
    assert "/after-the-end" not in mold.log()


ASGI_2 = '''
class Application:
    def __init__(self, scope):
        self.scope = scope
    async def __call__(self, receive, send):
        body = (await receive())["body"] + self.scope["path"].encode()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})

def function(scope):
    return Application(scope)

class Failing(Application):
    def __init__(self, scope):
        raise ValueError("in the first of the two calls")
'''


@pytest.mark.parametrize("target", ["main:Application", "main:function"])
def test_C8_a_double_callable_of_asgi_2_is_detected_and_served(python, tmp_path, target):
    (tmp_path / "main.py").write_text(ASGI_2)
    with mold_harness.Mold(tmp_path, target, python=python, lifespan="off") as mold:
        assert mold.loaded()["interface"] == "asgi2"
        worker = mold.fork()
        worker.ready()
        worker.listen()
        for _ in range(2):
            assert worker.request("POST", "/path", b"body of ") == (200, b"body of /path")


def test_C8_what_the_first_of_the_two_calls_raises_costs_its_request(python, tmp_path):
    (tmp_path / "main.py").write_text(ASGI_2)
    with mold_harness.Mold(tmp_path, "main:Failing", python=python, lifespan="off") as mold:
        worker = mold.serving_worker()
        for _ in range(2):
            assert worker.request(path="/path")[0] == 500
        assert mold.log().count("ValueError: in the first of the two calls") == 2


def test_C4_C5_C9_send_refuses_bad_messages_and_ignores_extra_keys(worker):
    raised = worker.json(path="/send-errors")
    assert raised == {
        "unknown type": "RuntimeError", "websocket type": "RuntimeError", "no type": "KeyError", "no dict": "TypeError",
        "no status": "KeyError", "status is text": "TypeError",
        "status of one digit": "'http.response.start': 7 is no final status (200..999)",
        "status is interim": "'http.response.start': 199 is no final status (200..999)",
        "status of four digits": "'http.response.start': 1000 is no final status (200..999)",
        "header name is text": "TypeError",
        "header is no pair": "an item of 'headers' is not a pair of name and value",
        "header with a newline": "'http.response.start': a control character in the header "
                                 "(b'a', b'b\\r\\nc: d')",
        "header name with a space": "'http.response.start': HTTP forbids the name of the header "
                                    "(b'a b', b'\\xff')",
        "two lengths": "'http.response.start': a second Content-Length: (b'Content-Length', b'1')",
        "length is no number": "'http.response.start': malformed Content-Length: "
                               "(b'content-length', b'-1')",
        "body first": "RuntimeError", "body is text": "TypeError", "second start": "RuntimeError"}


def test_C6_H10_an_exception_before_the_start_is_500_with_the_traceback_in_one_record(mold, worker):
    status, body = worker.request(path="/raise-before?secret=1")
    assert (status, body) == (500, b"Internal Server Error")
    mold.wait_for_log("raised before the start")
    record = re.search(r"(?m)^\d{4}-\S+ \S+ \S+ \[\d+\] \[worker 0\] \[error\] GET /raise-before"
                       r"\?secret=1: the application failed\nTraceback .*?\nValueError: raised before"
                       r" the start\n", mold.log(), re.S)
    assert record, mold.log()
    assert "mgr_host" not in record.group()
    assert worker.request(path="/no-read")[0] == 200


def test_H10_an_exception_after_the_start_but_before_a_body_is_still_500(worker):
    assert worker.request(path="/raise-after-start")[0] == 500


def test_H10_an_exception_after_a_part_was_flushed_cuts_the_connection(worker):
    data = read_all(worker.raw(b"GET /raise-after-body HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert b"200 OK" in data and b"part" in data
    assert not data.endswith(b"0\r\n\r\n")


def test_H9_an_application_that_returns_without_an_answer_is_500_and_logged(mold, worker):
    assert worker.request(path="/return-early")[0] == 500
    mold.wait_for_log("GET /return-early: the application returned without starting the response")
    assert worker.request(path="/return-after-start")[0] == 500
    data = read_all(worker.raw(b"GET /return-after-part HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert b"part" in data and not data.endswith(b"0\r\n\r\n")
    mold.wait_for_log("GET /return-after-part: the application returned without completing")


@pytest.mark.parametrize("path", ["/system-exit", "/keyboard-interrupt", "/cancel-itself"])
def test_C6_system_exit_interrupt_and_cancellation_end_the_request_alone(mold, worker, path):
    pid = worker.counters()["pid"]
    assert worker.request(path=path)[0] == 500
    mold.wait_for_log(f"GET {path}: the application failed")
    assert worker.request(path="/no-read")[0] == 200
    assert worker.counters()["pid"] == pid


def test_C10_a_cancelled_receive_loses_no_message(worker):
    connection = worker.raw(b"POST /cancelled-receive HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                            b"Content-Length: 10\r\n\r\n")
    received = b""
    while b"go" not in received:
        received += connection.recv(65536)
    connection.sendall(b"0123456789")
    assert b"0123456789" in read_all(connection)


def test_C10_receive_and_send_may_be_used_by_several_tasks_at_once(worker):
    connection = worker.raw(b"POST /concurrent HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                            b"Content-Length: 6\r\n\r\n")
    time.sleep(0.05)
    connection.sendall(b"abcdef")
    data = read_all(connection)
    assert data.count(b"abc") == 1 and b"abcdef" in data.replace(b"\r\n", b"")
    late = worker.json(path="/late")
    assert [each["type"] for each in late] == ["http.disconnect"] * len(late)


def test_C11_a_request_runs_in_a_context_of_its_own(worker):
    connection = worker.connection()
    for _ in range(2):
        connection.request("GET", "/context")
        assert json.loads(connection.getresponse().read()) is None
    connection.close()


def test_scope_has_the_types_and_values_of_the_specification(worker):
    connection = worker.connection()
    connection.connect()
    local = connection.sock.getsockname()
    connection.request("GET", "/scope/a%20b%C3%A9?x=%20y&z", headers={"X-A": "1", "Cookie": "a=b"})
    found = json.loads(connection.getresponse().read())
    connection.close()
    scope, types = found["scope"], found["types"]
    assert scope["http_version"] == "1.1" and scope["method"] == "GET" and scope["scheme"] == "http"
    assert scope["path"] == "/scope/a bé" and scope["raw_path"] == "/scope/a%20b%C3%A9"
    assert scope["query_string"] == "x=%20y&z" and scope["root_path"] == ""
    assert scope["client"] == list(local) and scope["server"] == ["127.0.0.1", worker.port]
    assert scope["state"] == {} and "http.response.trailers" in scope["extensions"]
    assert ["x-a", "1"] in scope["headers"] and ["cookie", "a=b"] in scope["headers"]
    assert types == {"type": "str", "asgi": "dict", "http_version": "str", "server": "tuple",
                     "client": "tuple", "scheme": "str", "method": "str", "root_path": "str",
                     "path": "str", "raw_path": "bytes", "query_string": "bytes", "headers": "list",
                     "state": "dict", "extensions": "dict"}


def test_scope_path_is_below_root_path_but_for_the_server_as_the_target(python, tmp_path):
    (tmp_path / "main.py").write_text('''
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body",
                "body": f'{scope["path"]} {scope["root_path"]}'.encode()})
''')
    with mold_harness.Mold(tmp_path, "main:app", python=python, root_path="/api") as mold:
        worker = mold.serving_worker()
        for head, path in ((b"GET /a", b"/api/a"), (b"OPTIONS *", b"*")):
            data = read_all(worker.raw(head + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
            assert data.partition(b"\r\n\r\n")[2] == path + b" /api"


def test_scope_headers_keep_order_and_duplicates(worker):
    data = read_all(worker.raw(b"GET /scope HTTP/1.1\r\nHost: a\r\nX-B: 2\r\nX-A: 1\r\nX-B: 3\r\n"
                               b"Connection: close\r\n\r\n"))
    headers = json.loads(data.partition(b"\r\n\r\n")[2])["scope"]["headers"]
    assert headers == [["host", "a"], ["x-b", "2"], ["x-a", "1"], ["x-b", "3"],
                       ["connection", "close"]]


def test_scope_of_http_1_0(worker):
    data = read_all(worker.raw(b"GET /scope HTTP/1.0\r\n\r\n"))
    assert json.loads(data.partition(b"\r\n\r\n")[2])["scope"]["http_version"] == "1.0"


def test_scope_path_that_is_no_utf_8_is_replaced_and_a_lone_percent_stays(worker):
    assert worker.json(path="/scope/%FF%zz%")["scope"]["path"] == "/scope/\ufffd%zz%"


def test_H1_there_is_one_request_message_without_a_body_and_all_of_a_chunked_one(worker):
    connection = worker.connection()
    connection.request("GET", "/echo")
    response = connection.getresponse()
    assert (response.read(), response.headers["x-messages"]) == (b"", "1")
    connection.request("POST", "/echo", body=iter([b"one ", b"two ", b"three"]), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().read() == b"one two three"
    connection.close()


def test_H1_a_large_body_arrives_whole_and_is_not_read_ahead_of_the_application(worker):
    payload = bytes(range(256)) * 40_000
    assert worker.request("POST", "/echo", payload) == (200, payload)
    assert worker.json("POST", "/slow-echo", b"x" * 3_000_000) == 3_000_000


def test_H2_disconnect_wakes_a_pending_receive_and_repeats(worker):
    assert worker.json(path="/receive-twice") == {
        "first": {"type": "http.request", "body": "", "more_body": False}, "early": False}
    assert worker.json(path="/late") == [{"type": "http.disconnect"}] * 2


def test_H2_H8_a_client_that_leaves_is_a_disconnect_and_send_raises_an_oserror(mold, worker):
    connection = worker.raw(b"POST /wait-for-disconnect HTTP/1.1\r\nHost: a\r\n"
                            b"Content-Length: 0\r\n\r\n")
    assert state(worker, "waiting") is True
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    assert state(worker, "disconnect") == ["http.disconnect", "http.disconnect"]
    assert state(worker, "send") == "ClientDisconnected"
    assert "/wait-for-disconnect" not in mold.log()


def test_H2_a_client_that_closes_without_a_reset_is_a_disconnect_for_receive(mold, worker):
    worker.raw(b"GET /leave-at-the-end HTTP/1.1\r\nHost: a\r\n\r\n").close()
    assert state(worker, "left") == ["http.disconnect", "http.disconnect"]
    assert "/leave-at-the-end" not in mold.log()


def test_H2_a_client_that_shuts_down_its_direction_alone_still_gets_its_answer(worker):
    with worker.raw(b"GET /answer-after-the-end HTTP/1.1\r\nHost: a\r\n\r\n") as connection:
        connection.shutdown(socket.SHUT_WR)
        response = b"".join(iter(lambda: connection.recv(4096), b""))
    assert response.startswith(b"HTTP/1.1 200 ") and response.endswith(b'"http.disconnect"')


def test_H4_send_waits_for_a_client_that_does_not_read(mold, worker):
    connection = worker.raw(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.3)
    first = worker.json(path="/flooded")["sent"]
    time.sleep(0.2)
    assert worker.json(path="/flooded")["sent"] == first > 0
    for _ in range(50):
        connection.recv(1 << 20)
    mold_harness.wait_until(lambda: worker.json(path="/flooded")["sent"] > first, "more was sent")
    connection.close()
    mold_harness.wait_until(lambda: worker.json(path="/flooded")["error"] == "ClientDisconnected",
                            "send() raised")
    assert "GET /flood" not in mold.log()


def test_H3_framing_is_the_servers_and_the_order_of_fields_the_applications(worker):
    data = read_all(worker.raw(b"GET /own-framing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    head, _, body = data.partition(b"\r\n\r\n")
    assert body == b"whole" and b"\r\nContent-Length: 5\r\n" in head
    assert b"gzip" not in head and b"timeout" not in head
    assert re.findall(rb"x-\w+: \d", head) == [b"x-first: 1", b"x-second: 2", b"x-first: 3"]


def test_H3_buffers_lists_and_generators_are_accepted_where_bytes_and_lists_are(worker):
    connection = worker.connection()
    connection.request("GET", "/buffers")
    response = connection.getresponse()
    assert response.read() == b"bytearray"
    assert (response.headers["x-a"], response.headers["x-b"]) == ("1", "2")
    connection.request("GET", "/headers-from-generator")
    response = connection.getresponse()
    assert response.read() == b"ok"
    assert [name for name, _ in response.getheaders()][:3] == ["x-a", "x-b", "x-a"]
    connection.close()


def test_H4_H5_a_stream_is_chunked_and_ends_with_the_connection_in_1_0(worker):
    connection = worker.connection()
    connection.request("GET", "/stream")
    response = connection.getresponse()
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.read() == b"0\n1\n2\n3\n4\n"
    connection.close()
    data = read_all(worker.raw(b"GET /stream HTTP/1.0\r\n\r\n"))
    assert b"chunked" not in data.lower() and data.endswith(b"\r\n\r\n0\n1\n2\n3\n4\n")


def test_H6_head_and_204_have_no_body(worker):
    connection = worker.connection()
    connection.request("HEAD", "/stream")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"")
    connection.request("GET", "/no-content")
    response = connection.getresponse()
    assert (response.status, response.read()) == (204, b"")
    assert response.headers["transfer-encoding"] is None
    connection.close()


@pytest.mark.parametrize("method, status", [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404)])
def test_H6_what_has_no_body_gets_none_of_what_the_application_sends(worker, method, status):
    """The next response on the connection begins right after the head."""
    connection = worker.raw(
        f"{method} /bodies-for-the-bodyless?{status} HTTP/1.1\r\nHost: a\r\n\r\n"
        "GET /no-read HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    first, second, body = read_all(connection).split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 %d " % status) and b"chunked" not in first
    assert second.startswith(b"HTTP/1.1 200 ") and body == b"not read"


def test_H7_a_body_that_breaks_its_content_length_is_never_completed(mold, worker):
    data = read_all(worker.raw(b"GET /too-long HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert b"four" not in data
    mold.wait_for_log("longer than its Content-Length")
    with pytest.raises(http.client.HTTPException):
        worker.request(path="/too-short")
    mold.wait_for_log("shorter than its Content-Length")


def test_H11_100_continue_is_sent_by_the_first_receive_and_not_without_one(worker):
    head = b"POST /%s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    connection = worker.raw(head % b"echo")
    assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
    connection.sendall(b"abc")
    assert connection.recv(65536).endswith(b"abc")
    connection.close()
    connection = worker.raw(head % b"no-read")
    assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    connection.close()


def test_H12_an_unread_body_is_never_taken_for_the_next_request(worker):
    body = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
    connection = worker.raw(b"POST /no-read HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s"
                            b"GET /scope HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                            % (len(body), body))
    data = read_all(connection)
    assert b"evil" not in data
    assert data.startswith(b"HTTP/1.1 200")


def test_H12_a_small_unread_body_is_drained_and_the_connection_stays(worker):
    connection = worker.connection()
    for _ in range(3):
        connection.request("POST", "/no-read", b"x" * 20_000)
        assert connection.getresponse().read() == b"not read"
        socket_of_the_first = connection.sock
    assert connection.sock is socket_of_the_first is not None
    connection.close()


def test_H13_one_connection_has_one_scope_at_a_time(worker):
    data = read_all(worker.raw(b"GET /overlap HTTP/1.1\r\nHost: a\r\n\r\n" * 5
                               + b"GET /overlap HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    assert re.findall(rb'"most": (\d)', data) == [b"1"] * 6


def test_H13_pipelined_requests_are_answered_in_order(worker):
    connection = worker.raw(b"".join(b"GET /scope/%d HTTP/1.1\r\nHost: a\r\n\r\n" % i
                                     for i in range(20))
                            + b"GET /no-read HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    data = read_all(connection)
    assert re.findall(rb'"path": "/scope/(\d+)"', data) == [b"%d" % i for i in range(20)]


def test_H13_a_background_task_after_the_response_does_not_delay_the_next_request(worker):
    connection = worker.connection()
    connection.request("GET", "/background")
    assert connection.getresponse().read() == b"answered"
    started = time.monotonic()
    connection.request("GET", "/no-read")
    assert connection.getresponse().read() == b"not read"
    assert time.monotonic() - started < 0.25
    connection.close()
    assert state(worker, "background") == "done"


def test_send_works_from_a_task_of_the_application(worker):
    assert worker.request(path="/send-in-task") == (200, b"from a task")


def test_an_awaitable_can_be_awaited_once_and_does_nothing_before(worker):
    assert "cannot reuse" in worker.json(path="/reused-awaitable")["error"]
    assert worker.request(path="/abandoned-awaitables") == (200, b"untouched")


def test_a_large_response_arrives_whole(worker):
    assert worker.request(path="/big") == (200, b"0123456789abcdef" * 65536)


def test_the_scoreboard_counts_requests_by_status(mold):
    worker = mold.fork(slot=1)
    worker.ready()
    worker.listen()
    worker.request(path="/no-read")
    worker.request(path="/raise-before")
    mold_harness.wait_until(lambda: worker.counters()["requests"] == [0, 0, 1, 0, 0, 1],
                            "both are counted")
    worker.drain()
    assert worker.wait() == 0


def test_nothing_was_left_unretrieved_or_unhandled(mold, worker):
    assert "never retrieved" not in mold.output()
    assert "Exception ignored" not in mold.output()
    mold_harness.wait_until(lambda: worker.counters()["in_flight"] == 0, "nothing in flight")
