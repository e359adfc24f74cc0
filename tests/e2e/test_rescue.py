"""Connections that wait in the queue of a worker which is blocked, stopped or dead are served by others."""

import contextlib
import os
import signal
import socket
import time

import pytest
from mgr_harness import APPS, Load, assert_none_lost, read_response, wait_for

BLOCK = '''
import time


async def block(scope, receive, send):
    time.sleep(float(scope["query_string"]))
    await respond(send, b"unblocked")

ROUTES["/block"] = block
'''


@pytest.fixture
def make_blocking(make_mgr):
    def make(**settings):
        mgr = make_mgr("echo", **{"workers": 4, "min_ready": "100ms", **settings})
        mgr.deploy_text((APPS / "echo.py").read_text() + BLOCK)
        return mgr.start()
    return make


@contextlib.contextmanager
def blocked(connection, seconds, mgr):
    """A worker is blocked; its request is answered in the end."""
    with connection:
        connection.sendall(f"GET /block?{seconds} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_for(lambda: any(worker["in_flight"] for worker in mgr.status_now()["workers"]), "in flight")
        yield
        assert read_response(connection).body == b"unblocked"


def load(seconds, **options):
    with Load(mode="new", rate=300, seconds=seconds, **options) as running:
        report = running.result()
    assert_none_lost(report)
    print(report["latency_ms"])
    return report["latency_ms"]


@pytest.mark.parametrize("balance", [None, "shared"])
def test_new_connections_do_not_wait_for_a_blocked_worker(make_blocking, balance):
    mgr = make_blocking(balance=balance)
    address = mgr.address
    with blocked(mgr.connect(), 3, mgr):
        latency = load(2, connect=address)
    # By chance a quarter of them, for up to 3 s; now the first of those, for two looks.
    assert latency["max"] < 1000, latency
    assert latency["p90"] < 200, latency
    # And afterwards it is given connections again.
    before = {worker["pid"]: worker["requests"] for worker in mgr.workers()}
    load(1, connect=address)
    grown = [worker["requests"] - before[worker["pid"]] for worker in mgr.workers()]
    assert len(grown) == 4 and min(grown) > 20, grown


def test_on_a_unix_socket_neither(make_blocking, tmp_path):
    path = tmp_path / "app.sock"
    mgr = make_blocking(bind=["127.0.0.1:0", f"unix:{path}"])
    with blocked(mgr.connect(), 2, mgr):
        latency = load(1.5, unix=path)
    assert latency["max"] < 1000, latency


def test_three_of_four_may_be_blocked(make_blocking):
    mgr = make_blocking()
    with contextlib.ExitStack() as stack:
        waiting = []
        for count in range(1, 4):
            connection = stack.enter_context(mgr.connect())
            connection.sendall(b"GET /block?4 HTTP/1.1\r\nHost: x\r\n\r\n")
            waiting.append(connection)
            # Those that come to a blocked one are taken by another.
            wait_for(lambda: sum(worker["in_flight"] for worker in mgr.status_now()["workers"]) == count,
                     f"{count} in flight", 2)
        latency = load(1.5, connect=mgr.address)
        assert latency["p90"] < 200, latency
        for connection in waiting:
            assert read_response(connection).body == b"unblocked"


def test_what_waits_for_a_stopped_worker_is_served_by_others(make_blocking):
    mgr = make_blocking(workers=2)
    pid = mgr.workers()[0]["pid"]
    address = mgr.address
    with Load(mgr, "new", 300) as running:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(pid, signal.SIGCONT)
        report = running.stop()
    assert_none_lost(report)
    # But for those in its hands, which waited for it to go on.
    assert report["latency_ms"]["p90"] < 200, report["latency_ms"]
    load(0.5, connect=address)


@pytest.mark.parametrize("balance", [None, "shared"])
def test_the_queue_of_a_dead_worker_is_served_by_others(make_blocking, balance):
    mgr = make_blocking(workers=2, balance=balance)
    pids = [worker["pid"] for worker in mgr.workers()]
    host, port = mgr.address.rsplit(":", 1)
    # So that nobody takes anything before the one has died.
    for pid in (mgr.pid, *pids):
        os.kill(pid, signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
                       for _ in range(20)]
        os.kill(pids[0], signal.SIGKILL)
        for pid in (mgr.pid, pids[1]):
            os.kill(pid, signal.SIGCONT)
        for connection in connections:
            connection.sendall(b"GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_response(connection).body == b"echo /echo/x"


def test_half_open_connections_of_a_blocked_worker_survive_packet_loss(make_blocking, network):
    address = f"{network.ADDRESS}:8000"
    mgr = make_blocking(bind=address, command_prefix=network.inside(network.server))
    network.drop(5)
    load_options = dict(prefix=network.inside(network.client), connect=address, timeout=40)
    with Load(mode="new", rate=200, **load_options) as running:
        for _ in range(8):
            # /block is reached by a client inside of the other namespace.
            with Load(mode="new", rate=2, count=1, path="/block?0.6", verify=False, timeout=40,
                      prefix=network.inside(network.client), connect=address) as one:
                assert one.result()["ok"] == 1
        report = running.stop()
    assert_none_lost(report)
    assert network.dropped() > 50
