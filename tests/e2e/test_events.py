"""mgr events: what happens, as it happens, to any number of listeners at any speed."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

from mgr_harness import MGR, wait_for

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d (\w+)(?: (.*))?")


@contextlib.contextmanager
def listening(mgr, *arguments):
    """`mgr events` as it runs; it is known to listen once its first line has come."""
    with subprocess.Popen([MGR, "events", *arguments, "--control", str(mgr.control)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=mgr.environment) as process:
        try:
            yield process
        finally:
            process.kill()


def names(lines):
    return [LINE.fullmatch(line).group(1) for line in lines]


def test_a_life_is_told_to_its_end(make_mgr):
    mgr = make_mgr("echo", workers=1, min_ready="100ms").start()
    with listening(mgr) as people, listening(mgr, "--json") as programs:
        assert LINE.fullmatch(people.stdout.readline().strip()).group(2) == \
            "state=running generation=1 workers=1"
        assert json.loads(programs.stdout.readline())["event"] == "state"
        mgr.must("reload")
        mgr.deploy_text("raise OSError('no database')\n")
        assert mgr.run("reload").returncode == 1
        os.kill(mgr.workers()[0]["pid"], signal.SIGKILL)
        wait_for(lambda: mgr.workers()[0]["restarts"] == 1, "a restart")
        wait_for(lambda: mgr.workers()[0]["state"] == "ready", "ready")
        mgr.must("scale", 2)
        mgr.must("drain")
        mgr.must("stop")
        text, error = people.communicate(timeout=10)
        assert people.returncode == 0 and error == ""
        objects = [json.loads(line) for line in programs.communicate(timeout=10)[0].splitlines()]
        assert programs.returncode == 0
    expected = ["reload_begun", "generation_loaded", "worker_ready", "worker_left",
                "reload_finished", "reload_begun", "reload_rolled_back", "worker_died",
                "worker_ready", "scaled", "worker_ready", "drained", "stopping", "worker_left",
                "worker_left", "stopped"]
    assert sorted(names(text.splitlines())) == sorted(expected)
    assert names(text.splitlines()) == [each["event"] for each in objects]
    by_name = {each["event"]: each for each in objects}
    assert by_name["worker_died"]["how"] == "killed by signal 9 (Killed)"
    assert by_name["reload_rolled_back"]["stage"] == "import"
    assert "OSError: no database" in by_name["reload_rolled_back"]["error"]
    assert by_name["stopped"]["exit_status"] == 0


def subscribe(mgr):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(str(mgr.control))
    connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: mgr\r\nConnection: close\r\n\r\n")
    head = connection.recv(65536)
    assert head.startswith(b"HTTP/1.1 200 ") and b"text/event-stream" in head, head
    return connection, head


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1)) * 1024


def test_a_listener_that_does_not_read_loses_events_and_costs_no_memory(make_mgr):
    mgr = make_mgr("echo", workers=1).start()
    turns = 4000
    slow, head = subscribe(mgr)
    before = resident(mgr.pid)
    with slow, socket.socket(socket.AF_UNIX) as control:
        control.connect(str(mgr.control))
        file = control.makefile("rb")
        for turn in range(turns):
            path = "drain" if turn % 2 == 0 else "undrain"
            control.sendall(f"POST /v1/{path} HTTP/1.1\r\nHost: mgr\r\nContent-Length: 0\r\n\r\n".encode())
            length = 0
            assert b" 200 " in file.readline()
            while (line := file.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            file.read(length)
        assert resident(mgr.pid) - before < 4 << 20
        stream = head
        while b"event: dropped" not in stream:
            stream += slow.recv(65536)
        mgr.must("stop")
        while part := slow.recv(65536):
            stream += part
    data = [json.loads(each) for each in re.findall(rb"data: (.*)\n", stream)]
    told = [each["event"] for each in data]
    dropped = sum(each["count"] for each in data if each["event"] == "dropped")
    assert dropped > 0
    assert told.count("drained") + told.count("undrained") + dropped == turns
    assert told[-1] == "stopped"


def test_there_may_be_so_many_listeners_and_one_that_leaves_makes_room(make_mgr):
    mgr = make_mgr("echo", workers=1).start()
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(subscribe(mgr)[0]) for _ in range(32)]
        refused = mgr.run("events")
        assert refused.returncode == 1
        assert refused.stderr == "32 listeners are there already, and no more are served\n"
        listeners[0].close()
        wait_for(lambda: mgr.api("HEAD", "/v1/events")[0] == 200, "answers")
        with listening(mgr) as one:
            assert " state " in one.stdout.readline()
    assert mgr.api("POST", "/v1/events", {})[0] == 405


def test_events_need_a_supervisor(make_mgr):
    mgr = make_mgr("echo", workers=1)
    nobody = mgr.run("events")
    assert nobody.returncode == 1 and nobody.stderr.strip()
