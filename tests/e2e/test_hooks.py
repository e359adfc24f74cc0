"""hooks: functions in mold and worker, commands of the supervisor."""

import json
import os
import signal
import subprocess
import time

import pytest
from mgr_harness import MGR, processes_with, wait_for

NOTES = """
import json, os

def note(info):
    with open("notes.txt", "a") as notes:
        notes.write(json.dumps(info) + "\\n")

def note_and_prepare(info):
    note(info)
    global prepared
    prepared = True

async def later(info):
    pass

def fails(info):
    raise OSError("no database")
"""
ASKED = """
prepared = False

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            note({"event": message["type"]})
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"prepared" if prepared else b"not prepared"})
"""
WSGI = """
prepared = False

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"prepared" if prepared else b"not prepared"]
"""
OF_PYTHON = ["loaded=main:note", "worker_start=main:note", "worker_ready=main:note_and_prepare",
             "worker_exit=main:note"]


def make(make_mgr, text=ASKED, **settings):
    mgr = make_mgr(workers=1, min_ready="100ms", **settings)
    mgr.deploy_text(NOTES + text)
    return mgr


def notes(mgr):
    return [json.loads(line) for line in (mgr.directory / "notes.txt").read_text().splitlines()]


def test_functions_are_called_in_mold_and_worker(make_mgr):
    mgr = make(make_mgr, hooks=OF_PYTHON).start()
    worker = mgr.workers()[0]["pid"]
    assert mgr.get("/")[1] == b"prepared"
    mgr.must("stop")
    told = notes(mgr)
    assert [each["event"] for each in told] == [
        "loaded", "worker_start", "lifespan.startup", "worker_ready", "lifespan.shutdown", "worker_exit"]
    mold = told[0].pop("pid")
    assert mold not in (worker, mgr.pid) and told[0] == {"event": "loaded", "generation": 1}
    assert told[1] == {"event": "worker_start", "pid": worker, "slot": 0, "generation": 1}


@pytest.mark.parametrize("text", [ASKED, WSGI], ids=["asgi", "wsgi"])
def test_without_preload_and_for_wsgi_too(make_mgr, text):
    mgr = make(make_mgr, text, preload="off", hooks=OF_PYTHON).start()
    worker = mgr.workers()[0]["pid"]
    assert mgr.get("/")[1] == b"prepared"
    mgr.must("stop")
    told = [each for each in notes(mgr) if "pid" in each]
    assert [each["event"] for each in told] == ["loaded", "worker_start", "worker_ready", "worker_exit"]
    assert {each["pid"] for each in told} == {worker}


def test_a_function_that_fails_in_a_worker_is_one_line(make_mgr):
    mgr = make(make_mgr, hooks=["worker_start=main:fails", "worker_ready=main:fails",
                                "worker_exit=main:fails"]).start()
    assert mgr.get("/")[0] == 200
    mgr.must("stop")
    lines = [line for line in mgr.log.splitlines() if " hook " in line]
    assert len(lines) == 3
    for event, line in zip(("worker_start", "worker_ready", "worker_exit"), lines):
        assert f"[worker 0] [error] hook {event}: OSError: no database (" in line
        assert line.endswith(f"{mgr.directory}/main.py, line 17)"), line


@pytest.mark.parametrize("hook, error", [
    ("loaded=main:fails", "hook loaded: OSError: no database"),
    ("worker_exit=main:nothing", "hook worker_exit: module 'main' has no attribute 'nothing'"),
    ("worker_exit=nothing:at", "hook worker_exit: cannot import 'nothing'"),
    ("worker_start=main:later", "hook worker_start: main:later is a coroutine function"),
    ("worker_start=main:prepared", "hook worker_start: main:prepared is not callable"),
])
def test_what_is_wrong_with_a_function_is_a_failure_of_loading(make_mgr, hook, error):
    mgr = make(make_mgr, hooks=hook).launch()
    assert mgr.wait_exit() == 4
    assert f"cannot start: hooks: {error}" in mgr.log.splitlines()[-1], mgr.log


def test_a_reload_with_a_wrong_function_is_taken_back(make_mgr, tmp_path):
    file = tmp_path / "mgr.yaml"
    file.write_text("workers: 1\n")
    mgr = make(make_mgr, config=file).start()
    file.write_text("hooks: {loaded: 'main:fails'}\n")
    failed = mgr.run("reload")
    assert failed.returncode == 1 and "hooks: hook loaded: OSError: no database" in failed.stderr
    assert mgr.get("/")[0] == 200


def test_an_unknown_event_is_an_error_that_names_the_known_ones(make_mgr):
    mgr = make_mgr("echo")
    done = subprocess.run([MGR, "run", "main:app", "--hooks", "when_ready=main:x"], cwd=mgr.directory,
                          capture_output=True, text=True, timeout=20, env=mgr.environment)
    assert done.returncode == 78 and done.stderr.count("\n") == 1
    for word in ("'when_ready'", "worker_start", "reload_failed", "stopped"):
        assert word in done.stderr


def test_a_library_has_no_functions(make_mgr):
    mgr = make_mgr("echo", target="./no.so", hooks="loaded=main:note").launch()
    assert mgr.wait_exit() == 4
    assert "hooks: loaded is for Python applications" in mgr.log.splitlines()[-1]


# ---- commands


def test_commands_are_told_what_happened(make_mgr, tmp_path):
    told = tmp_path / "told"
    told.mkdir()
    events = ["ready", "reloaded", "reload_failed", "worker_died", "stopped"]
    mgr = make(make_mgr, name="shop", hooks=[f"{event}=env > {told}/{event}.new; mv {told}/{event}.new "
                                             f"{told}/{event}" for event in events]).start()

    def seen(event):
        wait_for((told / event).exists, f"the command of {event}")
        return dict(line.split("=", 1) for line in (told / event).read_text().splitlines() if "=" in line)

    ready = seen("ready")
    assert ready["MGR_EVENT"] == "ready" and ready["MGR_WORKERS"] == "1"
    assert ready["MGR_NAME"] == "shop" and ready["MGR_CONTROL"] == str(mgr.control)
    pid = mgr.workers()[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    died = seen("worker_died")
    assert died["MGR_SLOT"] == "0" and died["MGR_PID"] == str(pid)
    assert died["MGR_HOW"] == "killed by signal 9 (Killed)" and died["MGR_RETRY_MS"] == "0"
    mgr.must("reload")
    assert seen("reloaded")["MGR_GENERATION"] == "2"
    mgr.deploy_text("raise OSError('no database')\n")
    assert mgr.run("reload").returncode == 1
    failed = seen("reload_failed")
    assert failed["MGR_STAGE"] == "import" and "OSError: no database" in failed["MGR_ERROR"]
    mgr.must("stop")
    stopped = seen("stopped")
    assert stopped["MGR_EVENT"] == "stopped" and stopped["MGR_EXIT_STATUS"] == "0"


def test_a_command_that_fails_is_one_line_and_changes_nothing(make_mgr):
    mgr = make(make_mgr, hooks="ready=echo what; echo is wrong >&2; exit 3").start()
    wait_for(lambda: "hook ready: exit status 3: what" in mgr.log, "the line")
    assert "is wrong" not in mgr.log and mgr.get("/")[0] == 200


def test_nobody_waits_for_a_command(make_mgr, tmp_path):
    ended = tmp_path / "ended"
    mgr = make(make_mgr, hooks=["ready=exec sleep 30", "worker_died=exec sleep 30",
                                f"stopped=touch {ended}"]).start()
    began = time.monotonic()
    for turn in range(12):
        pid = mgr.status_now()["workers"][0]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: mgr.status_now()["workers"][0]["pid"] not in (pid, None), "the next")
    assert time.monotonic() - began < 8
    wait_for(lambda: "hook worker_died: skipped, as 8 commands run already" in mgr.log, "the line")
    # Each is killed in the end.
    wait_for(lambda: mgr.log.count(": killed, as it took longer than 10 s") == 8, "killed", 20)
    assert len(processes_with(mgr.mark)) == 3
    for _ in range(9):
        pid = mgr.status_now()["workers"][0]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: mgr.status_now()["workers"][0]["pid"] not in (pid, None), "the next")
    mgr.must("stop")
    wait_for(ended.exists, "the hook of the end, beside 8 others")
    assert len(processes_with(mgr.mark)) == 8, "they outlive the supervisor"
    wait_for(lambda: not processes_with(mgr.mark), "but not for long", 15)


def test_a_command_may_write_without_end(make_mgr):
    mgr = make(make_mgr, hooks="ready=yes what; exit 1").start()
    wait_for(lambda: "hook ready: killed, as it took longer than 10 s: what" in mgr.log, "killed", 15)
    assert mgr.get("/")[0] == 200
