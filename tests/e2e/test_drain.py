"""mgr drain and undrain, and SIGWINCH: a service without clients, and one without workers."""

import contextlib
import os
import signal

import pytest
from mgr_harness import Load, assert_none_lost, free_port, no_loss, read_response, wait_for

REQUEST = b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n"


def ask(connection):
    connection.sendall(REQUEST)
    return read_response(connection)


def closes(mgr):
    """Whether a response on a new connection ends it."""
    with mgr.connect() as connection:
        return ask(connection).headers.get("connection", "keep-alive") == "close"


def reopened_connections(mgr, count):
    """Which of so many workers' responses end their connection: asked until each has answered."""
    seen = {}

    def complete():
        with mgr.connect() as connection:
            response = ask(connection)
            seen[response.body] = response.headers.get("connection", "") == "close"
        return len(seen) == count

    wait_for(complete, f"an answer of each of {count} workers")
    return seen


def test_a_drained_service_is_not_ready_and_ends_connections_but_serves(make_mgr):
    mgr = make_mgr("echo", workers=2).start()
    with mgr.connect() as idle, no_loss(Load(mgr, "new", 200), Load(mgr, "keep", 200)):
        assert ask(idle).status == 200
        assert "drained" in mgr.must("drain")
        status, reason, _ = mgr.api("GET", "/readyz")
        assert status == 503 and reason["detail"].startswith("drained")
        unready = mgr.run("ready")
        assert unready.returncode == 1 and "drained" in unready.stderr
        assert mgr.status()["state"] == "draining"
        wait_for(lambda: closes(mgr), "connections end")
        assert set(reopened_connections(mgr, 2).values()) == {True}
        last = ask(idle)
        assert last.status == 200 and last.headers["connection"] == "close"
        assert mgr.must("undrain").strip() == "undrained"
        mgr.must("ready")
        wait_for(lambda: not closes(mgr), "connections are kept again")
        assert set(reopened_connections(mgr, 2).values()) == {False}
        assert mgr.status()["state"] == "running"


def test_a_drain_holds_for_workers_that_start_later(make_mgr):
    mgr = make_mgr("echo", workers=1, min_ready="100ms").start()
    mgr.must("drain")
    mgr.must("drain")  # once more changes nothing
    mgr.must("reload")
    mgr.must("scale", 2)
    os.kill(mgr.workers()[0]["pid"], signal.SIGKILL)
    wait_for(lambda: [each["state"] for each in mgr.workers()] == ["ready"] * 2 and
             mgr.workers()[0]["restarts"] == 1, "all there again")
    assert mgr.status()["state"] == "draining"
    assert set(reopened_connections(mgr, 2).values()) == {True}
    mgr.must("undrain")
    wait_for(lambda: set(reopened_connections(mgr, 2).values()) == {False}, "kept again")


def test_undrain_does_not_revive_a_service_that_stops(make_mgr):
    mgr = make_mgr("echo", workers=1, drain_delay="10s").start()
    mgr.process.send_signal(signal.SIGTERM)
    wait_for(lambda: mgr.status_now()["state"] == "draining", "draining")
    for command in ("drain", "undrain"):
        refused = mgr.run(command)
        assert refused.returncode == 1 and "stopping" in refused.stderr
    assert closes(mgr)
    mgr.must("stop", "--now")


def dismissed(mgr):
    mgr.process.send_signal(signal.SIGWINCH)
    wait_for(lambda: not mgr.status_now()["workers"] and not mgr.status_now()["leaving"], "all gone")


@pytest.mark.parametrize("way_back", ["HUP", "TTIN", "scale"])
def test_winch_without_a_terminal_sends_the_workers_away_until_a_reload_or_scale(make_mgr, way_back):
    mgr = make_mgr("echo", workers=2, min_ready="100ms", bind=f"127.0.0.1:{free_port()}")
    mgr.start(start_new_session=True)
    with Load(mgr, "new", 100) as load:
        dismissed(mgr)
        assert mgr.process.poll() is None
        status, reason, _ = mgr.api("GET", "/readyz")
        assert status == 503 and reason["detail"].startswith("no workers")
        assert mgr.status()["target_workers"] == 0
        for refused in (("restart",), ("restart", 0), ("scale", "-1"), ("stack", 0)):
            done = mgr.run(*map(str, refused))
            assert done.returncode == 1 and "they were sent away; mgr reload" in done.stderr, done
        expected = {"HUP": 2, "TTIN": 1, "scale": 3}[way_back]
        if way_back == "scale":
            mgr.must("scale", 3)
        else:
            mgr.process.send_signal(getattr(signal, f"SIG{way_back}"))
        wait_for(lambda: [each["state"] for each in mgr.workers()] == ["ready"] * expected, "back")
        report = load.stop()
    assert_none_lost(report)  # they waited in the queue
    wait_for(lambda: mgr.run("ready").returncode == 0, "ready")
    assert {each["generation"] for each in mgr.workers()} == {2 if way_back == "HUP" else 1}


def test_a_reload_brings_back_no_worker_of_the_old_code(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="100ms").start(start_new_session=True)
    dismissed(mgr)
    mgr.deploy_text("raise OSError('no database')\n")
    assert mgr.run("reload").returncode == 1
    assert mgr.status()["workers"] == [] and mgr.log.count("generation 1) ready") == 2
    mgr.deploy("echo")
    mgr.must("reload")
    assert [each["state"] for each in mgr.workers()] == ["ready"] * 2
    assert mgr.log.count("generation 1) ready") == 2


def test_winch_finishes_requests_in_flight(make_mgr):
    mgr = make_mgr("echo", workers=1).start(start_new_session=True)
    with contextlib.closing(mgr.connect()) as connection:
        connection.sendall(b"GET /slow?0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 1, "in flight")
        mgr.process.send_signal(signal.SIGWINCH)
        assert read_response(connection).body == b"slow"
    wait_for(lambda: not mgr.status_now()["workers"] and not mgr.status_now()["leaving"], "gone")
