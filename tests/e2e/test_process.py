"""What the processes look like to the system: pidfile, umask, limits, titles."""

import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from mgr_harness import processes_with, read_response, wait_for

WRITES = """
import os

open("at_import.txt", "w").close()

async def app(scope, receive, send):
    assert scope["type"] == "http"
    open("in_request.txt", "w").close()
    os.makedirs("directory", exist_ok=True)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here"})
"""


def mode(path):
    return oct(stat.S_IMODE(os.stat(path).st_mode))


# ---- pidfile


def test_the_pidfile_is_there_from_start_to_end(make_mgr):
    mgr = make_mgr("echo", workers=1)
    pidfile = mgr.directory / "mgr.pid"
    mgr.settings["pidfile"] = "mgr.pid"  # relative to where mgr was started
    mgr.start()
    assert pidfile.read_text() == f"{mgr.pid}\n"
    assert mode(pidfile) == "0o644"
    mgr.must("reload")
    assert pidfile.read_text() == f"{mgr.pid}\n"
    mgr.must("stop")
    assert not pidfile.exists() and not mgr.control.exists()


def test_a_second_start_with_the_same_pidfile_is_refused(make_mgr, tmp_path):
    pidfile = tmp_path / "mgr.pid"
    first = make_mgr("echo", workers=1, pidfile=pidfile).start()
    second = make_mgr("echo", workers=1, pidfile=pidfile).launch()
    assert second.wait_exit() == 1
    assert f"cannot start: pidfile: {pidfile}: it runs already (pid {first.pid})" in second.log
    assert pidfile.read_text() == f"{first.pid}\n"
    first.must("ready")


def test_what_keeps_it_from_starting_is_on_standard_error_where_the_log_is_a_file_too(make_mgr, tmp_path):
    log, pidfile = tmp_path / "own.log", tmp_path / "missing/mgr.pid"
    mgr = make_mgr("echo", workers=1, log_file=log, pidfile=pidfile).launch()
    assert mgr.wait_exit() == 1
    assert mgr.log.startswith("mgr: pidfile: ") and mgr.log.count("\n") == 1, mgr.log
    assert "cannot start: pidfile: " in log.read_text()


def test_so_is_why_the_application_does_not_start(make_mgr, tmp_path):
    log = tmp_path / "mgr.log"
    mgr = make_mgr(workers=1, log_file=log)
    mgr.deploy_text("import nothing_of_this_name")
    mgr.launch()
    assert mgr.wait_exit() == 4
    assert mgr.log.startswith("mgr: cannot start: import: cannot import 'main': ModuleNotFoundError: ")
    assert mgr.log.endswith(f"with exit status 4, see {log}\n") and mgr.log.count("\n") == 1, mgr.log
    assert "Traceback (most recent call last)" in log.read_text()


def test_a_pidfile_that_was_left_behind_is_replaced(make_mgr, tmp_path):
    pidfile = tmp_path / "mgr.pid"
    first = make_mgr("echo", workers=1, pidfile=pidfile).start()
    first.process.send_signal(signal.SIGKILL)
    first.wait_exit()
    assert pidfile.read_text() == f"{first.pid}\n"
    second = make_mgr("echo", workers=1, pidfile=pidfile).start()
    assert pidfile.read_text() == f"{second.pid}\n"


def test_a_pidfile_that_can_not_be_written_is_one_clear_line(make_mgr, tmp_path):
    mgr = make_mgr("echo", workers=1, pidfile=tmp_path / "none" / "mgr.pid").launch()
    assert mgr.wait_exit() == 1
    assert f"pidfile: {tmp_path}/none/mgr.pid: No such file or directory" in mgr.log


# ---- umask


@pytest.mark.parametrize("umask, file, directory", [(None, "0o644", "0o755"), ("077", "0o600", "0o700"),
                                                    ("002", "0o664", "0o775")])
def test_files_get_the_permissions_that_umask_leaves(make_mgr, umask, file, directory):
    mgr = make_mgr(workers=1, umask=umask, lifespan="off")
    mgr.settings["log_file"] = mgr.directory / "own.log"
    mgr.deploy_text(WRITES)
    mgr.start(umask=0o027)  # of whoever starts it
    mgr.get("/x")
    assert mode(mgr.directory / "at_import.txt") == file
    assert mode(mgr.directory / "in_request.txt") == file
    assert mode(mgr.directory / "directory") == directory
    assert mode(mgr.directory / "own.log") == ("0o600" if umask == "077" else "0o644")
    assert mode(mgr.control) == "0o600"


def test_a_reload_applies_the_umask(make_mgr, tmp_path):
    file = tmp_path / "mgr.yaml"
    file.write_text("umask: 0022\n")
    mgr = make_mgr(workers=1, config=file, lifespan="off", min_ready="100ms")
    mgr.deploy_text(WRITES)
    mgr.start()
    file.write_text("umask: 0077\n")
    mgr.must("reload")
    mgr.get("/x")
    assert mode(mgr.directory / "in_request.txt") == "0o600"


# ---- limits


def limits(pid, name):
    line = re.search(rf"^{name} +(\S+) +(\S+)", Path(f"/proc/{pid}/limits").read_text(), re.M)
    return line.groups()


def test_all_may_open_as_many_files_as_the_hard_limit_allows(make_mgr):
    mgr = make_mgr("echo", workers=1)
    mgr.command_prefix = ["/usr/bin/prlimit", "--nofile=256:4096", "--core=0:1000000"]
    mgr.start()
    for pid in processes_with(mgr.mark):
        assert limits(pid, "Max open files") == ("4096", "4096")
        assert limits(pid, "Max core file size") == ("0", "1000000"), "as it was"


# ---- titles


def test_ps_tells_who_is_who(make_mgr):
    mgr = make_mgr("echo", workers=2, name="shop", min_ready="100ms").start()

    def shown():
        pids = ",".join(map(str, processes_with(mgr.mark)))
        done = subprocess.run(["ps", "-ww", "-o", "pid=,comm:20=,args=", "-p", pids],
                              capture_output=True, text=True, check=True)
        return sorted(re.sub(r"^ *\d+ +", "", line) for line in done.stdout.splitlines())

    def title(name, args):
        return f"{name:20} {args}"

    assert shown() == [title("mgr", "mgr: supervisor shop"),
                       title("mgr mold", "mgr: mold [main:app] gen 1"),
                       title("mgr worker 0", "mgr: worker 0 [main:app] gen 1"),
                       title("mgr worker 1", "mgr: worker 1 [main:app] gen 1")]
    mgr.must("reload")
    wait_for(lambda: len(shown()) == 4, "the old ones are gone")
    assert title("mgr worker 1", "mgr: worker 1 [main:app] gen 2") in shown()
    assert title("mgr mold", "mgr: mold [main:app] gen 2") in shown()


# ---- upgrade


def test_an_upgrade_keeps_what_commands_have_set(make_mgr, tmp_path):
    pidfile, log = tmp_path / "mgr.pid", tmp_path / "own.log"
    mgr = make_mgr("echo", workers=1, min_ready="100ms", name="shop", pidfile=pidfile, log_file=log).start()
    mgr.must("drain")
    mgr.must("log-level", "debug")
    mgr.must("upgrade")
    assert mgr.status()["state"] == "draining"
    assert "drained" in mgr.api("GET", "/readyz")[1]["detail"]
    with mgr.connect() as connection:
        connection.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(connection).headers["connection"] == "close"
    assert mgr.api("GET", "/v1/config")[1]["log_level"] == {"value": "debug", "origin": "log-level"}
    assert pidfile.read_text() == f"{mgr.pid}\n"
    second = make_mgr("echo", workers=1, pidfile=pidfile).launch()
    assert second.wait_exit() == 1 and "it runs already" in second.log
    assert Path(f"/proc/{mgr.pid}/cmdline").read_text() == "mgr: supervisor shop\0"
    log.rename(f"{log}.old")
    assert mgr.must("reopen") == "log files reopened\n"
    assert "log files reopened" in log.read_text()
    mgr.must("undrain")
    mgr.must("ready")
    mgr.must("stop")
    assert not pidfile.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to run as another user")
def test_an_upgrade_keeps_the_user_and_the_few_capabilities(make_open_mgr):
    mgr = make_open_mgr("echo", workers=1, min_ready="100ms", user="nobody").start()

    def capabilities(pid):
        return re.search(r"CapEff:\s+(\w+)", Path(f"/proc/{pid}/status").read_text()).group(1)

    before = capabilities(mgr.pid)
    assert int(before, 16) != 0
    mgr.must("upgrade")
    assert capabilities(mgr.pid) == before
    assert int(capabilities(mgr.workers()[0]["pid"]), 16) == 0
    assert mgr.get("/x")[0] == 200
