"""One stream of records from supervisor, molds and workers: one event, one record, in order; each
problem says what happens next."""

import contextlib
import json
import os
import re
import signal

from mgr_harness import wait_for

CRASHES = """
import os

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/exit":
        os._exit(7)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here"})
"""
TEXT_RECORD = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d\d:\d\d) "
    r"\[(?P<pid>\d+)\] \[(?P<who>[^]]+)\] \[(?P<level>\w+)\] (?P<message>.*)")


def text_records(log):
    return [found.groupdict() for found in map(TEXT_RECORD.fullmatch, log.splitlines()) if found]


def in_order(messages, *patterns):
    """Each pattern matches a message that stands after that of the pattern before it."""
    rest = iter(messages)
    for pattern in patterns:
        assert any(re.search(pattern, message) for message in rest), \
            f"no {pattern!r} in its place:\n" + "\n".join(messages)


def test_the_life_of_a_service_is_told_in_order(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="100ms").start()
    mgr.must("reload")
    mgr.must("scale", 3)
    mgr.end()
    records = text_records(mgr.log)
    in_order([record["message"] for record in records],
             r"^mgr [\d.]+ starts main:app: 2 workers$",
             r"^control socket ",
             r"^generation 1: application loaded by Python 3\.\d+\.\d+ \(.*\) in \d+ ms$",
             r"^worker \d \(pid \d+, generation 1\) ready after \d+ ms$",
             r"^listening on 127\.0\.0\.1:\d+$",
             r"^ready: 2 workers$",
             r"^control: /v1/reload by uid \d+ \(pid \d+\)$",
             r"^reload: loading generation 2; generation 1 serves on$",
             r"^generation 2: application loaded",
             r"^worker \d \(pid \d+, generation 2\) ready",
             r"^worker \d \(pid \d+, generation 1\) left: exit status 0$",
             r"^reload finished: generation 2 serves, after \d+ ms$",
             r"^control: /v1/scale by uid",
             r"^scale: 2 to 3 workers$",
             r"^SIGTERM$",
             r"^stopping: requests in flight have 30 s to finish$",
             r"^stopped$")
    times = [record["time"] for record in records]
    assert times == sorted(times)


def test_a_quick_stop_promises_no_time_to_requests_in_flight(make_mgr):
    mgr = make_mgr("echo", workers=1).start()
    mgr.must("stop", "--now")
    mgr.wait_exit()
    messages = [record["message"] for record in text_records(mgr.log)]
    in_order(messages, r"^stopping at once: requests in flight are cut$", r"^stopped$")
    assert not any("to finish" in message for message in messages)


def test_json_is_one_object_for_each_event_tracebacks_included(make_mgr):
    mgr = make_mgr("echo", workers=2, log_format="json").start()
    assert mgr.get("/fail")[0] == 500
    os.kill(mgr.workers()[0]["pid"], signal.SIGKILL)
    wait_for(lambda: [each["restarts"] for each in mgr.workers()] == [1, 0], "a restart")
    mgr.deploy_text("import nothing_of_this_name\n")
    assert mgr.run("reload").returncode == 1
    mgr.end()
    lines = [line for line in mgr.log.splitlines() if not line.startswith("lifespan shutdown")]
    records = [json.loads(line) for line in lines]
    assert all(list(record) == ["time", "level", "pid", "who", "message"] for record in records)
    failed = next(record for record in records if record["message"].startswith("GET /fail"))
    assert failed["level"] == "error" and re.fullmatch(r"worker [01]", failed["who"])
    assert "\nRuntimeError: the application failed on purpose" in failed["message"]
    refused = next(record for record in records if record["message"].startswith("reload of"))
    assert "\nModuleNotFoundError: No module named 'nothing_of_this_name'" in refused["message"]
    assert {record["who"] for record in records} >= {"supervisor"}


def test_each_problem_says_what_happens_next(make_mgr):
    mgr = make_mgr("echo", workers=1, min_ready="100ms", crash_backoff="200ms..1s",
                   graceful_timeout="1s")
    mgr.deploy_text(CRASHES)
    mgr.start()

    def crash():
        with contextlib.suppress(OSError), mgr.connect() as connection:
            connection.sendall(b"GET /exit HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(1)

    for number in range(1, 6):
        crash()
        wait_for(lambda: mgr.log.count("died") >= number, "the end in the log")
        wait_for(lambda: mgr.status_now()["workers"][0]["state"] == "ready", "back")
    mgr.deploy_text("raise OSError('no database')\n")
    assert mgr.run("reload").returncode == 1
    mgr.deploy("echo")
    mgr.must("reload")
    with mgr.connect() as connection:
        connection.sendall(b"GET /slow?20 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 1, "in flight")
        mgr.must("restart")
        wait_for(lambda: not mgr.status_now()["leaving"], "the old one is gone")
    problems = [record["message"] for record in text_records(mgr.log)
                if record["level"] in ("warning", "error")]
    assert len(problems) == 7, problems
    next_step = re.compile(r"; (a new one starts (now|in [\d.]+ s)|generation 1 serves on"
                           r"|the worker leaves)$")
    assert [problem for problem in problems if not next_step.search(problem)] == []
    assert sum("starts in" in problem for problem in problems) >= 1


def test_debug_tells_why_a_request_was_refused(make_mgr):
    mgr = make_mgr("echo", workers=1, log_level="debug").start()
    with mgr.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    record = wait_for(lambda: [each for each in text_records(mgr.log) if each["level"] == "debug"],
                      "the reason")[0]
    assert re.fullmatch(r"refused with 400: .+; from 127\.0\.0\.1", record["message"])
