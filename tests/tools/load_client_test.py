"""Proves that the load client sees every kind of loss, against a server that loses on purpose."""

import json
import os
import socket
import struct
import subprocess
import threading
import time

import pytest

CLIENT = os.environ["LOAD_CLIENT"]


class Peer:
    """One accepted connection, with what a scripted server needs."""

    def __init__(self, connection, number):
        self.connection = connection
        self.number = number
        self.buffer = b""

    def request(self):
        """The identity in the path of the next request, or None at the end."""
        while b"\r\n\r\n" not in self.buffer:
            data = self.connection.recv(65536)
            if not data:
                return None
            self.buffer += data
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
        wanted = int(length[0].split(b":")[1]) if length else 0
        while len(self.buffer) < wanted:
            self.buffer += self.connection.recv(65536)
        self.body, self.buffer = self.buffer[:wanted], self.buffer[wanted:]
        return head.split(b" ")[1].rsplit(b"/", 1)[-1]

    def answer(self, body, status=b"200 OK", fields=b""):
        length = b"Content-Length: %d\r\n" % len(body)
        self.connection.sendall(b"HTTP/1.1 " + status + b"\r\n" + length + fields + b"\r\n" + body)

    def send(self, data):
        self.connection.sendall(data)

    def reset(self):
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()


class Server:
    """Calls `script(peer)` for each connection on a thread of its own, then closes it."""

    def __init__(self, script, listener=None):
        self.listener = listener or socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.script = script
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        number = 0
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(Peer(connection, number),), daemon=True).start()
            number += 1

    def serve(self, peer):
        try:
            self.script(peer)
        except OSError:
            pass
        peer.connection.close()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.listener.getsockname()[1]


@pytest.fixture
def serve():
    servers = []

    def start(script, **options):
        servers.append(Server(script, **options))
        return servers[-1].address

    yield start
    for server in servers:
        server.listener.close()


def load(*arguments, connect=None):
    command = [CLIENT, *(["--connect", connect] if connect else []), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    report = json.loads(done.stdout)
    assert (done.returncode == 0) == (report["lost"] == 0)
    assert report["ok"] + report["lost"] - report["stray_bytes"] == report["due"]
    return report


def only(report, **expected):
    kinds = ["refused", "connect_error", "reset", "eof_before_response", "truncated", "raced",
             "timed_out", "wrong_status", "wrong_body", "bad_response", "never_sent", "stray_bytes"]
    found = {kind: report[kind] for kind in kinds if report[kind]}
    assert found == expected, report["losses"]


def polite(peer):
    while (identity := peer.request()) is not None:
        peer.answer(b"hello " + identity)


def test_a_good_server_loses_nothing_in_both_modes(serve):
    address = serve(polite)
    for mode in (["--mode", "new"], ["--mode", "keep", "--connections", "3", "--depth", "4"]):
        report = load(*mode, "--count", "200", "--rate", "2000", "--verify-id",
                      "--expect-body-prefix", "hello r", connect=address)
        only(report)
        assert report["ok"] == 200


def test_a_closed_port_is_refused():
    probe = socket.create_server(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % probe.getsockname()[1]
    probe.close()
    only(load("--count", "5", "--rate", "100", connect=address), refused=5)
    only(load("--mode", "keep", "--count", "5", "--rate", "100", connect=address), refused=5)


def test_a_missing_unix_socket_is_a_connect_error(tmp_path):
    only(load("--unix", str(tmp_path / "none"), "--count", "3", "--rate", "100"), connect_error=3)


def test_a_unix_socket_is_served(tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen(64)
    Server(polite, listener)
    report = load("--unix", str(tmp_path / "socket"), "--count", "50", "--rate", "500", "--verify-id")
    listener.close()
    only(report)


def test_a_reset_is_counted_with_its_port(serve):
    ports = []

    def script(peer):
        identity = peer.request()
        if peer.number % 10 == 3:
            ports.append(peer.connection.getpeername()[1])
            peer.reset()
        else:
            peer.answer(b"ok " + identity)

    report = load("--count", "40", "--rate", "400", connect=serve(script))
    only(report, reset=4)
    assert sorted(loss["local_port"] for loss in report["losses"]) == sorted(ports)


def test_an_end_before_the_head_is_complete_is_counted(serve):
    def script(peer):
        identity = peer.request()
        if peer.number == 1:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-")
        elif peer.number != 2:
            peer.answer(identity)

    report = load("--count", "10", "--rate", "50", connect=serve(script))
    only(report, eof_before_response=2)
    assert sorted(loss["bytes"] for loss in report["losses"]) == [0, 25]


@pytest.mark.parametrize("part", [b"Content-Length: 50\r\n\r\nhalf",
                                  b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                                  b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"])
def test_an_end_within_the_body_is_truncated(serve, part):
    def script(peer):
        identity = peer.request()
        if peer.number == 4:
            peer.send(b"HTTP/1.1 200 OK\r\n" + part)
        else:
            peer.answer(identity)

    only(load("--count", "10", "--rate", "100", connect=serve(script)), truncated=1)


def test_a_whole_chunked_body_is_no_loss(serve):
    def script(peer):
        while (identity := peer.request()) is not None:
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nid=\r\n")
            peer.send(b"%x;ext=1\r\n%s\r\n0\r\nTrailer: 1\r\n\r\n" % (len(identity), identity))

    report = load("--mode", "keep", "--connections", "2", "--count", "20", "--rate", "200",
                  "--verify-id", "--expect-body-prefix", "id=r", connect=serve(script))
    only(report)


def test_an_answer_that_never_comes_times_out(serve):
    def script(peer):
        identity = peer.request()
        if peer.number == 2:
            time.sleep(3)
        peer.answer(identity)

    only(load("--count", "10", "--rate", "50", "--timeout", "0.5", connect=serve(script)), timed_out=1)


def test_a_stuck_pipeline_loses_only_what_is_overdue_and_sends_the_rest_again(serve):
    def script(peer):
        while (identity := peer.request()) is not None:
            if identity == b"r000000003":
                time.sleep(2)
                return
            peer.answer(identity)

    report = load("--mode", "keep", "--connections", "1", "--depth", "8", "--count", "20", "--rate",
                  "20", "--timeout", "0.3", "--verify-id", connect=serve(script))
    only(report, timed_out=1)
    assert report["resent"] > 0


def test_a_wrong_status_and_another_requests_body_are_seen(serve):
    def script(peer):
        while (identity := peer.request()) is not None:
            if identity == b"r000000005":
                peer.answer(identity, status=b"500 Internal Server Error")
            elif identity == b"r000000007":
                peer.answer(b"hello r000000006")
            elif identity == b"r000000009":
                peer.answer(b"bye r000000009")
            else:
                peer.answer(b"hello " + identity)

    report = load("--mode", "keep", "--connections", "2", "--count", "20", "--rate", "200",
                  "--verify-id", "--expect-body-prefix", "hello", connect=serve(script))
    only(report, wrong_status=1, wrong_body=2)


def test_what_is_not_http_and_bytes_nobody_asked_for_are_seen(serve):
    def script(peer):
        identity = peer.request()
        if peer.number == 1:
            peer.send(b"SSH-2.0-something\r\n\r\n")
        elif peer.number == 3:
            peer.answer(identity + b"AND MORE", fields=b"Content-Length: 10\r\n")
        else:
            peer.answer(identity)

    report = load("--count", "10", "--rate", "100", connect=serve(script))
    only(report, bad_response=1, stray_bytes=1)


def test_requests_that_no_connection_takes_in_time_were_never_sent(serve):
    def script(peer):
        while (identity := peer.request()) is not None:
            time.sleep(0.2)
            peer.answer(identity)

    report = load("--mode", "keep", "--connections", "1", "--count", "30", "--rate", "100",
                  "--timeout", "1", connect=serve(script))
    assert report["never_sent"] > 10
    assert report["lost"] == report["never_sent"] + report["timed_out"]


def test_latency_counts_from_the_due_time(serve):
    def script(peer):
        while (identity := peer.request()) is not None:
            if identity == b"r000000000":
                time.sleep(0.5)
            peer.answer(identity)

    report = load("--mode", "keep", "--connections", "1", "--count", "50", "--rate", "100",
                  connect=serve(script))
    only(report)
    assert report["latency_ms"]["p50"] > 100 and report["latency_ms"]["max"] >= 500


def test_connection_close_sends_the_pipelined_rest_again_and_is_no_loss(serve):
    answered = []

    def script(peer):
        for turn in range(5):
            identity = peer.request()
            if identity is None:
                return
            answered.append(identity)
            peer.answer(identity, fields=b"Connection: close\r\n" if turn == 4 else b"")
        peer.connection.shutdown(socket.SHUT_WR)
        while peer.connection.recv(65536):
            pass

    report = load("--mode", "keep", "--connections", "2", "--depth", "8", "--count", "100",
                  "--verify-id", connect=serve(script))
    only(report)
    assert report["resent"] > 0 and report["closed_by_response"] >= 18
    assert len(answered) == len(set(answered)) == 100


def test_a_server_that_says_close_and_stays_is_reported(serve):
    def script(peer):
        peer.answer(peer.request(), fields=b"Connection: close\r\n")
        time.sleep(20)

    report = load("--mode", "keep", "--connections", "1", "--count", "3", "--rate", "0.3",
                  "--timeout", "12", connect=serve(script))
    only(report)
    assert report["left_open"] >= 1


def test_an_idle_close_is_regular(serve):
    def script(peer):
        peer.connection.settimeout(0.1)
        while (identity := peer.request()) is not None:
            peer.answer(identity)

    report = load("--mode", "keep", "--connections", "1", "--count", "5", "--rate", "4",
                  "--verify-id", connect=serve(script))
    only(report)
    assert report["idle_closed"] >= 4


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_close_that_crosses_a_request_on_an_idle_connection_is_raced(serve, end):
    def script(peer):
        peer.answer(peer.request())
        peer.request()
        if end == "reset":
            peer.reset()

    report = load("--mode", "keep", "--connections", "1", "--count", "4", "--rate", "20",
                  connect=serve(script))
    only(report, raced=2)


def test_a_pipeline_cut_in_the_middle_loses_every_unanswered_request(serve):
    def script(peer):
        peer.answer(peer.request())
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal")
        peer.connection.shutdown(socket.SHUT_WR)
        time.sleep(1)

    report = load("--mode", "keep", "--connections", "1", "--depth", "4", "--count", "4",
                  connect=serve(script))
    only(report, truncated=1, eof_before_response=2)


def test_post_bodies_arrive_whole(serve):
    sizes = []

    def script(peer):
        while (identity := peer.request()) is not None:
            sizes.append(len(peer.body))
            peer.answer(identity)

    report = load("--mode", "keep", "--connections", "2", "--count", "20", "--rate", "200",
                  "--body-size", "100000", "--verify-id", connect=serve(script))
    only(report)
    assert sizes == [100000] * 20


def test_a_path_without_id_is_sent_as_it_is(serve):
    def script(peer):
        peer.answer(peer.request())

    only(load("--count", "3", "--rate", "100", "--path", "/a/b?c", "--expect-body-prefix", "b?c",
              connect=serve(script)))


def test_sigterm_ends_the_sending_and_accounts_for_everything(serve):
    client = subprocess.Popen([CLIENT, "--connect", serve(polite), "--rate", "200", "--verify-id"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "first response" in client.stderr.readline()
    client.terminate()
    out, _ = client.communicate(timeout=20)
    report = json.loads(out)
    assert client.returncode == 0 and report["ok"] == report["due"] >= 1
