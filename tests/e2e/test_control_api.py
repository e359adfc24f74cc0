"""The control API over its Unix socket, with curl and with uids of others."""

import grp
import json
import os
import signal
import socket
import stat
import subprocess
import threading

import pytest
from mgr_harness import MGR, Load, alive, read_response, wait_for

NOBODY = 65534


def curl(mgr, method, path, *arguments):
    """(status, headers, body) by the real curl."""
    done = subprocess.run(
        ["curl", "-sS", "-i", "-X", method, "--max-time", "60", "--unix-socket", str(mgr.control),
         f"http://mgr{path}", *arguments], capture_output=True, text=True, timeout=70)
    assert done.returncode == 0, done.stderr
    head, body = done.stdout.replace("\r\n", "\n").split("\n\n", 1)
    lines = head.split("\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


def as_uid(uid, mgr, method, path, body=b"", groups=()):
    """Status of one request made by a process of another user; None where connecting is refused."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(str(mgr.control))
                connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: mgr\r\nConnection: close\r\n"
                                   f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                answer = read_response(connection)
            os.write(writer, str(answer.status).encode())
        except OSError:
            os.write(writer, b"refused")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as result:
        text = result.read()
    os.waitpid(child, 0)
    return None if text == "refused" else int(text)


def test_status_has_the_shape_of_the_contract(make_mgr):
    mgr = make_mgr("echo", workers=2, name="shape").start()
    mgr.get("/x")
    status, headers, body = curl(mgr, "GET", "/v1/status")
    assert status == 200 and headers["content-type"].startswith("application/json")
    shown = json.loads(body)
    assert set(shown) >= {"version", "name", "pid", "generation", "state", "uptime_s", "target_workers",
                          "reloads", "last_reload", "listeners", "workers", "leaving"}
    assert shown["name"] == "shape" and shown["pid"] == mgr.pid and shown["state"] == "running"
    assert shown["target_workers"] == 2 and shown["reloads"] == 0 and shown["leaving"] == []
    listener = shown["listeners"][0]
    assert set(listener) >= {"address", "balance", "queued"}
    assert listener["balance"] == "random" and listener["address"] == mgr.address
    for slot, worker in enumerate(shown["workers"]):
        assert set(worker) >= {"slot", "pid", "generation", "state", "uptime_s", "requests",
                               "in_flight", "connections", "busy", "rss", "restarts", "last_exit"}
        assert worker["slot"] == slot and alive(worker["pid"])
        assert worker["rss"] > 1_000_000 and 0 <= worker["busy"] <= 1
    assert shown["last_reload"] is None or shown["last_reload"]["ok"] in (True, None)


def test_the_counters_of_status_count(make_mgr):
    mgr = make_mgr("echo", workers=2).start()
    for _ in range(30):
        mgr.get("/x")
    wait_for(lambda: sum(worker["requests"] for worker in mgr.workers()) == 30, "30 requests", 3)
    with mgr.connect() as connection:
        connection.sendall(b"GET /slow?2 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: sum(worker["in_flight"] for worker in mgr.workers()) == 1, "in flight")
        assert sum(worker["connections"] for worker in mgr.workers()) >= 1


def test_a_draining_worker_stands_under_leaving(make_mgr):
    mgr = make_mgr("echo", workers=1, min_ready="100ms", graceful_timeout="20s").start()
    old = mgr.workers()[0]
    with mgr.connect() as connection:
        connection.sendall(b"GET /slow?4 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: mgr.workers()[0]["in_flight"] == 1, "in flight")
        mgr.must("reload")
        leaving = mgr.status()["leaving"]
        assert [entry["pid"] for entry in leaving] == [old["pid"]]
        assert leaving[0]["in_flight"] == 1 and leaving[0]["generation"] == old["generation"]
        assert 0 < leaving[0]["deadline_s"] <= 20
        assert read_response(connection).body == b"slow"
    wait_for(lambda: not mgr.status()["leaving"], "gone")


def test_workers_config_and_probes_answer(make_mgr):
    mgr = make_mgr("echo", workers=2).start()
    assert len(json.loads(curl(mgr, "GET", "/v1/workers")[2])) >= 1
    status, _, body = curl(mgr, "GET", "/v1/config")
    assert status == 200 and "graceful_timeout" in body
    assert curl(mgr, "GET", "/livez")[0] == 200
    assert curl(mgr, "GET", "/readyz")[0] == 200


def test_a_scale_is_the_origin_of_the_number_of_workers(make_mgr):
    mgr = make_mgr("echo", workers=1).start()
    workers = lambda: json.loads(curl(mgr, "GET", "/v1/config")[2])["workers"]
    assert workers()["origin"] == "command line"
    mgr.must("scale", 2)
    assert workers() == {"value": 2, "origin": "scale"}


def test_changes_answer_when_they_are_finished(make_mgr):
    mgr = make_mgr("echo", workers=1, min_ready="100ms").start()
    assert curl(mgr, "POST", "/v1/scale", "-d", '{"workers": 3}')[0] == 200
    assert [worker["state"] for worker in mgr.workers()] == ["ready"] * 3
    generation = mgr.status()["generation"]
    assert curl(mgr, "POST", "/v1/reload")[0] == 200
    assert {worker["generation"] for worker in mgr.workers()} == {generation + 1}
    before = {worker["slot"]: worker["pid"] for worker in mgr.workers()}
    assert curl(mgr, "POST", "/v1/restart", "-d", '{"slots": [1]}')[0] == 200
    after = {worker["slot"]: worker["pid"] for worker in mgr.workers()}
    assert [slot for slot in before if before[slot] != after[slot]] == [1]
    assert curl(mgr, "POST", "/v1/stop", "-d", '{"now": false}')[0] == 200
    assert mgr.wait_exit() == 0


@pytest.mark.parametrize("method, path, body, expected", [
    ("GET", "/v1/nothing", None, 404),
    ("GET", "/", None, 404),
    ("DELETE", "/v1/status", None, 405),
    ("GET", "/v1/scale", None, 405),
    ("POST", "/v1/status", None, 405),
    ("POST", "/v1/scale", "{", 400),
    ("POST", "/v1/scale", '{"workers": 0}', 400),
    ("POST", "/v1/scale", '{"workers": 513}', 400),
    ("POST", "/v1/scale", '{"workers": "many"}', 400),
    ("POST", "/v1/scale", "[]", 400),
    ("POST", "/v1/scale", None, 400),
    ("POST", "/v1/restart", '{"slots": [9]}', 400),
    ("POST", "/v1/restart", '{"slots": "all"}', 400),
    ("POST", "/v1/restart", '{"slots": []}', 400),
    ("POST", "/v1/restart", '{"slots": [18446744073709551615]}', 400),
    ("POST", "/v1/restart", '{"slot": [0]}', 400),
    ("POST", "/v1/reload", '{"now": true}', 400),
    ("POST", "/v1/scale", '{"workers": 18446744073709551615}', 400),
    ("POST", "/v1/scale", '{"change": 18446744073709551615}', 400),
    ("POST", "/v1/scale", '{"workers": 1, "by": 1}', 400),
    ("POST", "/v1/stop", '{"now": 1}', 400),
])
def test_errors_are_problem_json(make_mgr, method, path, body, expected):
    mgr = make_mgr("echo", workers=1).start()
    arguments = [] if body is None else ["-d", body]
    status, headers, text = curl(mgr, method, path, *arguments)
    assert status == expected or (expected == 400 and status == 422), text
    assert headers["content-type"].startswith("application/problem+json")
    problem = json.loads(text)
    assert problem["status"] == status and problem["title"]
    if status == 405:
        assert headers["allow"] == {"/v1/status": "get, head", "/v1/scale": "post"}[path]
    if body and "18446744073709551615" in body:
        assert "18446744073709551615" in problem["detail"] and "allowed are" in problem["detail"]
    assert mgr.status()["target_workers"] == 1 and mgr.status()["state"] == "running"


@pytest.mark.parametrize("request_text, expected", [
    (b"no HTTP at all\r\n\r\n", 400),
    (b"GET /v1/status HTTP/1.1\r\n\r\n", 400),
    (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", 413),
])
def test_so_is_what_a_malformed_request_gets(make_mgr, request_text, expected):
    mgr = make_mgr("echo", workers=1).start()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(mgr.control))
        connection.sendall(request_text)
        answer = read_response(connection)
    assert answer.status == expected
    assert answer.headers["content-type"] == "application/problem+json"
    problem = json.loads(answer.body)
    assert problem["status"] == expected and problem["title"] and problem["detail"]
    assert mgr.status()["reloads"] == 0


def test_a_control_socket_that_was_removed_comes_back_with_a_hup(make_mgr):
    mgr = make_mgr("echo", workers=1, min_ready="50ms").start()
    mgr.control.unlink()
    assert mgr.run("status").returncode == 1
    mgr.process.send_signal(signal.SIGHUP)
    wait_for(mgr.control.exists, "it is there again")
    wait_for(lambda: mgr.status()["generation"] == 2, "the reload")
    assert mgr.status()["state"] == "running" and "was removed; it is there again" in mgr.log
    mgr.must("stop")
    assert not mgr.control.exists()


def test_a_second_reload_is_refused_with_409_and_the_first_succeeds(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="1s").start()
    first = {}
    thread = threading.Thread(target=lambda: first.update(answer=mgr.api("POST", "/v1/reload")))
    thread.start()
    wait_for(lambda: mgr.status_now()["state"] == "reloading", "reloading", period=0.005)
    status, headers, body = curl(mgr, "POST", "/v1/reload")
    assert status == 409 and headers["content-type"].startswith("application/problem+json"), body
    refused = mgr.run("reload")
    assert refused.returncode == 1 and refused.stderr.strip()
    thread.join(30)
    assert first["answer"][0] == 200
    assert mgr.status()["reloads"] == 1


def test_a_scale_during_a_reload_waits_its_turn(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="500ms").start()
    with Load(mgr, "new", 300) as load:
        reload = subprocess.Popen([MGR, "reload", "--control", str(mgr.control)],
                                  stdout=subprocess.DEVNULL, env=mgr.environment)
        wait_for(lambda: mgr.status_now()["state"] == "reloading", "reloading", period=0.005)
        mgr.must("scale", 4)
        status = mgr.status()
        assert reload.wait(30) == 0
        report = load.stop()
    assert report["lost"] == 0
    assert [worker["state"] for worker in status["workers"]] == ["ready"] * 4
    assert {worker["generation"] for worker in status["workers"]} == {status["generation"]}


def test_a_stop_interrupts_a_reload(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="10s").start()
    reload = subprocess.Popen([MGR, "reload", "--control", str(mgr.control)], env=mgr.environment,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: mgr.status_now()["state"] == "reloading", "reloading", period=0.005)
    mgr.must("stop")
    assert mgr.wait_exit(5) == 0
    assert reload.wait(10) == 1


def test_stop_waits_until_the_supervisor_is_gone(make_mgr):
    mgr = make_mgr("echo", workers=2).start()
    mgr.must("stop")
    assert mgr.wait_exit(1) == 0
    assert not mgr.control.exists()


def test_a_graceful_stop_that_is_asked_for_again_cuts_nothing(make_mgr):
    mgr, statuses = make_mgr("echo", workers=2).start(), []
    with mgr.connect() as connection:
        connection.sendall(b"GET /slow?3 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: sum(worker["in_flight"] for worker in mgr.workers()) == 1, "in flight")
        stops = [threading.Thread(target=lambda: statuses.append(mgr.run("stop").returncode))
                 for _ in range(2)]
        for stop in stops:
            stop.start()
        wait_for(lambda: mgr.status()["state"] == "stopping", "stopping")
        status = mgr.status()
        leaving = [worker for worker in status["leaving"] if worker["in_flight"]]
        assert status["workers"] == [] and len(leaving) == 1, status
        assert 0 < leaving[0]["deadline_s"] <= 30
        mgr.process.send_signal(signal.SIGTERM)
        assert read_response(connection).status == 200
    for stop in stops:
        stop.join()
    assert statuses == [0, 0] and mgr.wait_exit() == 0


def test_stop_now_does_not_wait_for_requests(make_mgr):
    mgr = make_mgr("echo", workers=1).start()
    with mgr.connect() as connection:
        connection.sendall(b"GET /slow?20 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: mgr.workers()[0]["in_flight"] == 1, "in flight")
        mgr.must("stop", "--now", seconds=5)
        mgr.wait_exit(5)


def test_the_socket_is_private(make_mgr):
    mgr = make_mgr("echo", workers=1).start()
    assert stat.S_IMODE(os.stat(mgr.control).st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_may_not_even_read(make_open_mgr):
    mgr = make_open_mgr("echo", workers=1).start()
    assert as_uid(NOBODY, mgr, "GET", "/v1/status") is None
    # Even where the file's mode lets it in, its uid does not.
    os.chmod(mgr.control, 0o666)
    assert as_uid(NOBODY, mgr, "GET", "/v1/status") == 403
    assert as_uid(NOBODY, mgr, "POST", "/v1/scale", b'{"workers": 3}') == 403
    assert as_uid(NOBODY, mgr, "POST", "/v1/stop") == 403
    assert as_uid(0, mgr, "GET", "/v1/status") == 200
    assert mgr.status()["target_workers"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_the_groups_of_the_process_count_for_control_group(make_open_mgr):
    group = grp.getgrnam("nogroup").gr_gid
    mgr = make_open_mgr("echo", workers=1, control_group="nogroup").start()
    assert as_uid(12345, mgr, "GET", "/v1/status") is None
    assert as_uid(12345, mgr, "GET", "/v1/status", groups=[23456, group]) == 200
    assert as_uid(12345, mgr, "GET", "/v1/status", groups=[*range(1000, 1200), group]) == 200
    assert as_uid(12345, mgr, "POST", "/v1/stop", groups=[group]) == 403
    os.chmod(mgr.control, 0o666)
    assert as_uid(12345, mgr, "GET", "/v1/status", groups=[23456]) == 403


def test_the_control_socket_answers_while_every_worker_is_busy(make_mgr):
    mgr = make_mgr("echo", workers=1).start()
    with Load(mgr, "new", 200, path="/slow?0.5", verify=False) as load:
        for _ in range(20):
            assert mgr.api("GET", "/livez")[0] == 200
        load.stop()


def test_status_for_people_names_every_worker(make_mgr):
    mgr = make_mgr("echo", workers=2, name="people").start()
    text = mgr.must("status")
    assert "people" in text
    for worker in mgr.workers():
        assert str(worker["pid"]) in text
