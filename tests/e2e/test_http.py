"""HTTP/1.1 over the real thing: framing, limits, timeouts, refusals, access log, forwarded."""

import re
import socket
import subprocess
import time

import pytest
from mgr_harness import Mgr, Response, read_response, wait_for


@pytest.fixture(scope="module")
def mgr(tmp_path_factory):
    directory = tmp_path_factory.mktemp("http")
    made = Mgr(directory, "echo", workers=1, header_timeout="1s", body_timeout="1s", keep_alive="1s",
               write_timeout="2s", limit_body="1m", limit_headers=20, limit_header_size="8k",
               limit_request_line="2000", access_log=directory / "access.log")
    made.start()
    yield made
    made.end()


@pytest.fixture(autouse=True)
def still_serving(mgr):
    worker = mgr.workers()[0]["pid"]
    yield
    assert mgr.get("/alive") == (200, b"echo /alive")
    assert mgr.workers()[0]["pid"] == worker, "the worker died of it"


def request(path="/echo/x", method="GET", fields="", body=b"", version="1.1", host="Host: x\r\n"):
    return f"{method} {path} HTTP/{version}\r\n{host}{fields}\r\n".encode() + body


def ask(mgr, data, method="GET") -> Response:
    with mgr.connect() as connection:
        connection.sendall(data)
        return read_response(connection, method)


def rest_of(connection):
    data = b""
    while more := connection.recv(65536):
        data += more
    return data


def refused(mgr, data, status):
    """The server answers `status` and ends the connection: nothing after it is a request."""
    with mgr.connect() as connection:
        connection.sendall(data + request("/echo/smuggled"))
        answer = read_response(connection)
        assert answer.status == status, (answer.status, answer.body)
        assert answer.headers.get("connection", "").lower() == "close"
        assert b"smuggled" not in rest_of(connection)


# ---- responses


def test_a_response_has_date_and_server_and_length(mgr):
    answer = ask(mgr, request())
    assert answer.status == 200 and answer.body == b"echo /echo/x"
    assert answer.headers["content-length"] == "12"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])
    assert "mgr" in answer.headers["server"]


def test_keep_alive_and_pipelining_answer_in_order(mgr):
    with mgr.connect() as connection:
        connection.sendall(b"".join(request(f"/echo/{number}") for number in range(50)))
        file = connection.makefile("rb")
        for number in range(50):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += file.readline()
            length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
            assert file.read(length) == b"echo /echo/%d" % number


def test_slow_and_fast_pipelined_requests_keep_their_order(mgr):
    with mgr.connect() as connection:
        connection.sendall(request("/slow?0.3") + request("/echo/second", fields="Connection: close\r\n"))
        text = rest_of(connection)
    assert text.index(b"slow") < text.index(b"/echo/second")


def test_head_gets_the_head_alone(mgr):
    with mgr.connect() as connection:
        connection.sendall(request("/head", "HEAD") + request("/echo/next", fields="Connection: close\r\n"))
        text = rest_of(connection)
    assert b"a body that HEAD" not in text
    assert text.count(b"HTTP/1.1 200") == 2 and text.endswith(b"echo /echo/next")
    assert b"content-length: %d\r\n" % len("a body that HEAD must not get") in text.lower()


def test_a_response_without_length_is_chunked(mgr):
    answer = ask(mgr, request("/stream?3"))
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body == b"part 0\npart 1\npart 2\nend\n"


def test_http_1_0_gets_no_chunks_and_an_end(mgr):
    with mgr.connect() as connection:
        connection.sendall(request("/stream?3", version="1.0", host=""))
        text = rest_of(connection)
    assert text.endswith(b"\r\n\r\npart 0\npart 1\npart 2\nend\n")
    assert b"transfer-encoding" not in text.lower()


def test_http_1_0_keep_alive_where_asked_for(mgr):
    with mgr.connect() as connection:
        for number in range(3):
            connection.sendall(request(f"/echo/{number}", version="1.0", fields="Connection: keep-alive\r\n"))
            answer = read_response(connection)
            assert answer.body == b"echo /echo/%d" % number
            assert answer.headers["connection"].lower() == "keep-alive"


def test_connection_close_is_honoured(mgr):
    with mgr.connect() as connection:
        connection.sendall(request(fields="Connection: close\r\n"))
        assert read_response(connection).headers["connection"].lower() == "close"
        assert connection.recv(1) == b""


def test_an_exception_is_500_with_a_traceback_in_the_log(mgr):
    answer = ask(mgr, request("/fail"))
    assert answer.status == 500
    assert b"on purpose" not in answer.body
    assert "RuntimeError: the application failed on purpose" in mgr.log and "Traceback" in mgr.log


# ---- request bodies


def test_a_body_with_length_and_a_chunked_one(mgr):
    body = b"x" * 100_000
    fixed = request("/post", "POST", f"Content-Length: {len(body)}\r\n", body)
    assert ask(mgr, fixed).body == b"got 100000"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:1], body[1:70000], body[70000:]))
    chunked = request("/post", "POST", "Transfer-Encoding: chunked\r\n", chunks + b"0\r\nTrailer: x\r\n\r\n")
    assert ask(mgr, chunked).body == b"got 100000"


def test_a_body_byte_by_byte(mgr):
    data = request("/post", "POST", "Transfer-Encoding: chunked\r\n", b"5;a=b\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n")
    with mgr.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            connection.sendall(bytes([byte]))
        assert read_response(connection).body == b"got 8"


def test_100_continue_comes_when_the_application_wants_the_body(mgr):
    with mgr.connect() as connection:
        connection.sendall(request("/post", "POST", "Content-Length: 5\r\nExpect: 100-continue\r\n"))
        assert read_response(connection).status == 100
        connection.sendall(b"hello")
        assert read_response(connection).body == b"got 5"


def test_no_100_continue_where_the_application_ignores_the_body(mgr):
    with mgr.connect() as connection:
        connection.sendall(request("/ignore-body", "POST", "Content-Length: 5\r\nExpect: 100-continue\r\n"))
        answer = read_response(connection)
    assert answer.status == 200 and answer.body == b"never read it"


def test_an_unread_body_is_never_taken_for_a_request(mgr):
    smuggled = request("/echo/smuggled")
    with mgr.connect() as connection:
        connection.sendall(request("/ignore-body", "POST", f"Content-Length: {len(smuggled)}\r\n", smuggled) +
                           request("/echo/after", fields="Connection: close\r\n"))
        text = rest_of(connection)
    assert b"smuggled" not in text


def test_curl_can_post_a_file(mgr, tmp_path):
    (tmp_path / "file").write_bytes(b"y" * 900_000)
    done = subprocess.run(["curl", "-sS", "--max-time", "10", "--data-binary", f"@{tmp_path}/file",
                           f"http://{mgr.address}/post"], capture_output=True, text=True)
    assert done.stdout == "got 900000"


# ---- limits


def test_a_long_request_line_is_414(mgr):
    assert ask(mgr, request("/" + "a" * 1900)).status == 200
    refused(mgr, request("/" + "a" * 2100), 414)


def test_too_many_or_too_large_headers_are_431(mgr):
    assert ask(mgr, request(fields="".join(f"X-{n}: 1\r\n" for n in range(18)))).status == 200
    refused(mgr, request(fields="".join(f"X-{n}: 1\r\n" for n in range(30))), 431)
    refused(mgr, request(fields="X: " + "a" * 9000 + "\r\n"), 431)


def test_too_large_a_body_is_413(mgr):
    refused(mgr, request("/post", "POST", "Content-Length: 1048577\r\n"), 413)
    chunk = b"%x\r\n%s\r\n" % (600_000, b"z" * 600_000)
    with mgr.connect() as connection:
        connection.sendall(request("/post", "POST", "Transfer-Encoding: chunked\r\n", chunk + chunk))
        assert read_response(connection).status == 413


# ---- timeouts


def seconds_until_end(connection):
    began = time.monotonic()
    data = rest_of(connection)
    return time.monotonic() - began, data


def test_half_a_head_is_answered_408(mgr):
    with mgr.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost:")
        seconds, data = seconds_until_end(connection)
    assert data.startswith(b"HTTP/1.1 408") and 0.8 < seconds < 2.5


def test_a_head_drip_by_drip_does_not_extend_its_time(mgr):
    with mgr.connect() as connection:
        began = time.monotonic()
        connection.settimeout(0.1)
        data = b""
        for byte in request(fields="X: " + "y" * 100 + "\r\n"):
            try:
                connection.sendall(bytes([byte]))
                data += connection.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                break
            break
        assert time.monotonic() - began < 3
    assert data == b"" or data.startswith(b"HTTP/1.1 408")


def test_a_silent_connection_is_closed_without_a_word(mgr):
    with mgr.connect() as connection:
        seconds, data = seconds_until_end(connection)
    assert data == b"" and 0.8 < seconds < 2.5


def test_an_idle_connection_is_closed_after_keep_alive(mgr):
    with mgr.connect() as connection:
        connection.sendall(request())
        read_response(connection)
        seconds, data = seconds_until_end(connection)
    assert data == b"" and 0.8 < seconds < 2.5


def test_silence_in_a_body_ends_the_connection(mgr):
    with mgr.connect() as connection:
        connection.sendall(request("/post", "POST", "Content-Length: 10\r\n", b"abc"))
        seconds, data = seconds_until_end(connection)
    assert 0.8 < seconds < 3 and (data == b"" or data.startswith(b"HTTP/1.1 408"))


def test_a_slow_handler_is_not_cut_by_any_of_these_timeouts(mgr):
    assert ask(mgr, request("/slow?3")).body == b"slow"


# ---- refusals (RFC 9112): two parsers could disagree on each of these


@pytest.mark.parametrize("data", [
    request(host=""),
    request(host="Host: a\r\nHost: b\r\n"),
    request(fields="Name : value\r\n"),
    request(fields="Name: a\r\n folded\r\n"),
    request(fields=": empty name\r\n"),
    request(fields="No colon\r\n"),
    request(fields="Name: nul\0byte\r\n"),
    request("/post", "POST", "Content-Length: 5\r\nContent-Length: 6\r\n", b"hello"),
    request("/post", "POST", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    request("/post", "POST", "Content-Length: +5\r\n", b"hello"),
    request("/post", "POST", "Content-Length: -1\r\n"),
    request("/post", "POST", "Content-Length: 5, 5\r\n", b"hello"),
    request("/post", "POST", "Content-Length: 0x5\r\n", b"hello"),
    request("/post", "POST", "Content-Length: 99999999999999999999999\r\n"),
    request("/post", "POST", "Transfer-Encoding: chunked\r\n", b"5x\r\nhello\r\n0\r\n\r\n"),
    request("/post", "POST", "Transfer-Encoding: chunked\r\n", b"-5\r\nhello\r\n0\r\n\r\n"),
    request("/post", "POST", "Transfer-Encoding: chunked\r\n", b"5\nhello\n0\n\n"),
    request("/post", "POST", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    request("/post", "POST", "Transfer-Encoding: chunked\r\n", b"", version="1.0"),
    b"GET /echo/x HTTP/1.1\nHost: x\n\n",
    b"GET  /echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /echo/x\r\n\r\n",
    b"GET /echo/x HTTP/1.1 \r\nHost: x\r\n\r\n",
    b"G\x01T /echo/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"not http at all\r\n\r\n",
])
def test_ambiguous_requests_are_400_and_end_the_connection(mgr, data):
    refused(mgr, data, 400)


def test_an_unknown_transfer_coding_is_501(mgr):
    refused(mgr, request("/post", "POST", "Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 501)


@pytest.mark.parametrize("version", ["2.0", "3.0", "9.9"])
def test_another_version_is_505(mgr, version):
    refused(mgr, request(version=version), 505)


# ---- scope, access log, forwarded


def scope_of(mgr, path="/scope", fields="", version="1.1"):
    answer = ask(mgr, request(path, fields=fields, version=version))
    return eval(answer.body.decode(), {"__builtins__": {}})  # a repr of plain values


def test_the_scope_is_what_the_specification_says(mgr):
    scope = scope_of(mgr, "/scope?a=1&b=%20", "X-Twice: 1\r\nX-Twice: 2\r\n")
    assert scope["http_version"] == "1.1" and scope["method"] == "GET" and scope["scheme"] == "http"
    assert scope["path"] == "/scope" and scope["raw_path"] == b"/scope"
    assert scope["query_string"] == b"a=1&b=%20" and scope["root_path"] == ""
    assert [value for name, value in scope["headers"] if name == b"x-twice"] == [b"1", b"2"]
    host, port = mgr.address.split(":")
    assert tuple(scope["server"]) == (host, int(port))
    assert scope["client"][0] == "127.0.0.1" and scope["client"][1] > 0


def test_a_percent_encoded_path_is_decoded_and_the_raw_one_is_kept(mgr):
    assert ask(mgr, request("/h%C3%A9%20%2Fx?q=%20")).body == "echo /hé /x".encode()


def test_a_trusted_proxy_is_believed_for_scheme_and_client(mgr):
    scope = scope_of(mgr, fields="X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n")
    assert scope["scheme"] == "https" and scope["client"][0] == "203.0.113.9"


def test_the_right_most_untrusted_address_counts(mgr):
    scope = scope_of(mgr, fields="X-Forwarded-For: 198.51.100.1, 203.0.113.9, 127.0.0.1\r\n")
    assert scope["client"][0] == "203.0.113.9"


def test_the_other_family_changes_nothing(mgr):
    scope = scope_of(mgr, fields="Forwarded: for=203.0.113.9;proto=https\r\n")
    assert scope["scheme"] == "http" and scope["client"][0] == "127.0.0.1"


def test_an_untrusted_peer_is_not_believed(make_mgr):
    other = make_mgr("echo", workers=1, trusted_proxies="10.0.0.1").start()
    scope = scope_of(other, fields="X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n")
    assert scope["scheme"] == "http" and scope["client"][0] == "127.0.0.1"


def access_line(mgr, path):
    def found():
        return [line for line in open(mgr.settings["access_log"], encoding="utf-8", errors="replace")
                if path in line]

    return wait_for(found, "a line in the access log", 5)[0]


def test_the_access_log_is_the_combined_format(mgr):
    ask(mgr, request("/echo/logged?a=b", fields="Referer: http://r/\r\nUser-Agent: probe/1\r\n"))
    line = access_line(mgr, "/echo/logged")
    assert re.fullmatch(r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] '
                        r'"GET /echo/logged\?a=b HTTP/1\.1" 200 17 "http://r/" "probe/1"\n', line), line


def test_control_characters_and_quotes_are_escaped_in_the_access_log(mgr):
    ask(mgr, request('/echo/marked', fields='User-Agent: a"b\tc\xff\r\n'))
    line = access_line(mgr, "/echo/marked")
    assert "\t" not in line and 'a"b' not in line


def test_a_status_other_than_200_is_logged(mgr):
    ask(mgr, request("/fail?logged-failure"))
    assert '" 500 ' in access_line(mgr, "logged-failure")


# ---- clients that leave


def test_a_client_that_resets_does_no_harm(mgr):
    for _ in range(30):
        connection = mgr.connect()
        connection.sendall(request("/slow?0.2"))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    wait_for(lambda: mgr.workers()[0]["in_flight"] == 0, "all have ended")


def test_a_half_close_after_the_request_still_gets_the_response(mgr):
    with mgr.connect() as connection:
        connection.sendall(request("/slow?0.3"))
        connection.shutdown(socket.SHUT_WR)
        assert read_response(connection).body == b"slow"


def test_a_client_that_does_not_read_is_cut_and_holds_little_memory(mgr):
    before = mgr.workers()[0]["rss"]
    with mgr.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(request("/flood"))
        wait_for(lambda: mgr.workers()[0]["in_flight"] == 1, "in flight", 5)
        wait_for(lambda: mgr.workers()[0]["in_flight"] == 0, "cut by write_timeout", 10)
    assert mgr.workers()[0]["rss"] - before < 20_000_000
