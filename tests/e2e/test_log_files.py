"""Logs while the service runs: files that a rotation moves away, and the level of what is logged."""

import os
import signal
import subprocess
import threading

import pytest
from mgr_harness import Load, assert_none_lost, free_port, wait_for


def files(mgr):
    """log_file and access_log beside the control socket."""
    directory = mgr.control.parent
    mgr.settings |= {"log_file": directory / "own.log", "access_log": directory / "access.log"}
    return mgr.settings["log_file"], mgr.settings["access_log"]


def text_of(path):
    """That of all files that were ever at this path."""
    return "".join(each.read_text() for each in path.parent.glob(path.name + "*"))


def open_files(pid):
    found = set()
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{entry}"))
        except OSError:
            pass
    return found


@pytest.mark.parametrize("by", ["command", "signal"])
def test_a_rotation_under_load_loses_no_line(make_mgr, by):
    mgr = make_mgr("echo", workers=2, min_ready="100ms", bind=f"127.0.0.1:{free_port()}")
    log_file, access_log = files(mgr)
    mgr.start()
    errors = 0
    with Load(mgr, "new", 300) as load, Load(mgr, "keep", 300) as keep:
        for turn in range(10):
            for path in (log_file, access_log):
                path.rename(f"{path}.{turn}")
            if by == "command":
                assert mgr.must("reopen") == "log files reopened\n"
            else:
                mgr.process.send_signal(signal.SIGUSR1)
                wait_for(lambda: log_file.exists() and "log files reopened" in log_file.read_text(),
                         "reopened")
            if turn == 4:
                mgr.must("reload")  # and molds that come meanwhile
            assert mgr.get("/fail")[0] == 500
            errors += 1
        reports = [load.stop(), keep.stop()]
    for report in reports:
        assert_none_lost(report)
    mgr.must("stop")
    answered = sum(report["ok"] for report in reports)
    lines = text_of(access_log).splitlines()
    assert sum("GET /echo/" in line for line in lines) == answered
    assert text_of(log_file).count("RuntimeError: the application failed on purpose") == errors
    assert "lost" not in text_of(log_file)


def test_once_reopened_nobody_has_the_old_files(make_mgr):
    mgr = make_mgr("echo", workers=2)
    log_file, access_log = files(mgr)
    mgr.start()
    # One that is forked later has them from its mold.
    processes = [mgr.pid, *(each["pid"] for each in mgr.workers())]
    for path in (log_file, access_log):
        path.rename(f"{path}.old")
    mgr.must("reopen")
    os.kill(mgr.workers()[1]["pid"], signal.SIGKILL)
    wait_for(lambda: mgr.workers()[1]["restarts"] == 1 and mgr.workers()[1]["state"] == "ready", "again")
    for pid in {mgr.pid, processes[1], mgr.workers()[1]["pid"]}:
        assert {str(log_file), str(access_log)} <= open_files(pid)
        assert not any(name.endswith(".old") for name in open_files(pid))
    mgr.get("/x")
    wait_for(lambda: "GET /x" in access_log.read_text(), "the line")


def test_a_reopen_that_fails_changes_nothing(make_mgr):
    mgr = make_mgr("echo", workers=1)
    log_file, access_log = files(mgr)
    mgr.start()
    log_file.rename(f"{log_file}.old")
    access_log.unlink()
    access_log.mkdir()
    failed = mgr.run("reopen")
    assert failed.returncode == 1
    assert failed.stderr == f"access_log: {access_log}: Is a directory\n"
    assert f"access_log: {access_log}: Is a directory; the old ones are written on" in \
        log_file.with_name(log_file.name + ".old").read_text()


def test_there_may_be_nothing_to_reopen(make_mgr):
    mgr = make_mgr("echo", workers=1).start()
    assert mgr.must("reopen").startswith("nothing to reopen")


def test_a_worker_that_is_blocked_takes_its_files_later(make_mgr):
    mgr = make_mgr(workers=1)
    log_file, access_log = files(mgr)
    mgr.deploy_text("import os, time\n" + (mgr.directory / "main.py").read_text() +
                    "\nasync def block(scope, receive, send):\n    time.sleep(4)\n"
                    "    await respond(send, b'at last')\nROUTES['/block'] = block\n")
    mgr.start()
    caller = threading.Thread(target=lambda: mgr.get("/block"))
    caller.start()
    wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 1, "blocked")
    access_log.rename(f"{access_log}.old")
    assert mgr.must("reopen") == "log files reopened; 1 process is busy and takes them later\n"
    caller.join()
    mgr.get("/x")
    wait_for(lambda: "GET /x" in access_log.read_text(), "the line")


# ---- level


def level(mgr):
    return mgr.api("GET", "/v1/config")[1]["log_level"]


def refuse_one(mgr):
    """Makes a worker write a record of level debug."""
    with mgr.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_the_level_holds_for_workers_of_now_and_of_later(make_mgr):
    mgr = make_mgr("echo", workers=1, min_ready="100ms").start()
    refuse_one(mgr)
    assert "refused with 400" not in mgr.log
    assert mgr.must("log-level", "debug") == "log level debug\n"
    assert level(mgr) == {"value": "debug", "origin": "log-level"}
    refuse_one(mgr)
    wait_for(lambda: mgr.log.count("refused with 400") == 1, "a record of the worker")
    os.kill(mgr.workers()[0]["pid"], signal.SIGKILL)
    wait_for(lambda: mgr.workers()[0]["restarts"] == 1 and mgr.workers()[0]["state"] == "ready", "again")
    refuse_one(mgr)
    wait_for(lambda: mgr.log.count("refused with 400") == 2, "a record of the next worker")
    mgr.must("reload")
    refuse_one(mgr)
    wait_for(lambda: mgr.log.count("refused with 400") == 3, "a record of the next generation")
    mgr.must("log-level", "error")
    mgr.must("scale", 2)
    assert "scale: 1 to 2 workers" not in mgr.log


def test_a_reload_that_changes_the_level_wins(make_mgr, tmp_path):
    file = tmp_path / "mgr.yaml"
    file.write_text("log_level: info\n")
    mgr = make_mgr("echo", workers=1, min_ready="100ms", config=file).start()
    mgr.must("log-level", "debug")
    mgr.must("reload")
    assert level(mgr) == {"value": "debug", "origin": "log-level"}
    file.write_text("log_level: warning\n")
    mgr.deploy_text("raise OSError('no database')\n")
    assert mgr.run("reload").returncode == 1
    assert level(mgr) == {"value": "debug", "origin": "log-level"}
    mgr.deploy("echo")
    mgr.must("reload")
    assert level(mgr) == {"value": "warning", "origin": "file:1"}
    refuse_one(mgr)
    mgr.must("stop")
    assert "refused with 400" not in mgr.log and "stopped" not in mgr.log


def test_an_unknown_level_is_refused(make_mgr):
    mgr = make_mgr("echo", workers=1).start()
    refused = mgr.run("log-level", "trace")
    assert refused.returncode == 2
    assert refused.stderr == "mgr log-level: 'trace' is not known; allowed: debug, info, warning or error\n"
    status, problem, _ = mgr.api("PUT", "/v1/log-level", {"level": "trace"})
    assert status == 400 and problem["detail"].startswith("level: 'trace'")
    assert mgr.api("PUT", "/v1/log-level", {})[0] == 400
    assert mgr.api("POST", "/v1/log-level", {"level": "debug"})[0] == 405
    assert mgr.api("PUT", "/v1/drain", {})[0] == 405
    assert level(mgr)["origin"] == "default"


@pytest.mark.parametrize("setting", ["log-file", "access-log"])
def test_a_fifo_that_nobody_reads_is_refused_and_not_waited_for(make_mgr, setting):
    mgr = make_mgr("echo")
    os.mkfifo(mgr.directory / "fifo")
    done = subprocess.run([os.environ["MGR_BIN"], "run", "main:app", f"--{setting}", "fifo"],
                          cwd=mgr.directory, env=mgr.environment, capture_output=True, text=True,
                          timeout=20)
    assert done.returncode == 1
    assert "fifo: a FIFO or device that nobody reads" in done.stderr.splitlines()[-1]
