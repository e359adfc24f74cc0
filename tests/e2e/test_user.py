"""Started as root, the application of another user: without rights, and without the supervisor's."""

import json
import os
import pwd
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from mgr_harness import MGR, processes_with, wait_for
from test_control_api import as_uid

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to run as another user")

USER = "nobody"
ENTRY = pwd.getpwnam(USER)
# chown, dac_override, dac_read_search, fowner, kill, setgid, setuid, setpcap, net_bind_service
SUPERVISOR = sum(1 << bit for bit in (0, 1, 2, 3, 5, 6, 7, 8, 10))
TELLS = """
import json, os

async def app(scope, receive, send):
    assert scope["type"] == "http"
    told = {name: os.environ.get(name) for name in ("HOME", "USER", "LOGNAME")}
    told |= {"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups()}
    body = json.dumps(told).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


def status_of(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def assert_without_rights(pid, uid=ENTRY.pw_uid, gid=ENTRY.pw_gid):
    status = status_of(pid)
    assert status["Uid"].split() == [str(uid)] * 4
    assert status["Gid"].split() == [str(gid)] * 4
    assert set(status["Groups"].split()) <= {str(gid)}
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, (name, status[name])
    assert status["NoNewPrivs"] == "1"
    # It can be debugged by its user and dumps core: else the files of /proc are root's.
    assert os.stat(f"/proc/{pid}/environ").st_uid == uid


def test_molds_and_workers_have_no_rights_and_the_supervisor_few(make_open_mgr):
    mgr = make_open_mgr("echo", workers=2, user=USER, min_ready="100ms").start()
    for turn in range(1, 3):
        others = set(processes_with(mgr.mark)) - {mgr.pid}
        assert len(others) == 3
        for pid in others:
            assert_without_rights(pid)
        os.kill(mgr.workers()[0]["pid"], signal.SIGKILL)
        wait_for(lambda: mgr.workers()[0]["restarts"] == turn and
                 mgr.workers()[0]["state"] == "ready", "again")
    mgr.must("reload")
    wait_for(lambda: not mgr.status_now()["leaving"], "the old ones are gone")
    wait_for(lambda: len(processes_with(mgr.mark)) == 4, "and their mold")
    for pid in set(processes_with(mgr.mark)) - {mgr.pid}:
        assert_without_rights(pid)
    supervisor = status_of(mgr.pid)
    assert supervisor["Uid"].split() == ["0"] * 4
    for name in ("CapBnd", "CapPrm", "CapEff"):
        assert int(supervisor[name], 16) == SUPERVISOR, (name, supervisor[name])
    assert mgr.get("/x")[0] == 200
    assert "serve.py" in mgr.must("stack", 0)


def test_the_application_sees_itself_as_that_user(make_open_mgr):
    mgr = make_open_mgr(workers=1, user=USER, lifespan="off")
    mgr.settings["env"] = "LOGNAME=other"
    mgr.deploy_text(TELLS)
    mgr.start()
    told = json.loads(mgr.get("/")[1])
    assert told == {"HOME": ENTRY.pw_dir, "USER": USER, "LOGNAME": "other",
                    "uid": [ENTRY.pw_uid] * 3, "gid": [ENTRY.pw_gid] * 3, "groups": [ENTRY.pw_gid]}


def test_numbers_do_and_a_group_of_its_own(make_open_mgr):
    mgr = make_open_mgr("echo", workers=1, user=12345, group=54321).start()
    assert_without_rights(mgr.workers()[0]["pid"], 12345, 54321)


def low_port():
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no low port is free")


def test_low_ports_and_roots_log_files_serve_it(make_open_mgr):
    mgr = make_open_mgr("echo", workers=1, user=USER, bind=f"127.0.0.1:{low_port()}", min_ready="100ms")
    logs = mgr.control.parent / "logs"
    logs.mkdir(mode=0o700)
    mgr.settings |= {"log_file": logs / "own.log", "access_log": logs / "access.log"}
    mgr.start()
    assert mgr.get("/x")[0] == 200 and mgr.get("/fail")[0] == 500
    wait_for(lambda: "GET /x" in (logs / "access.log").read_text(), "the line")
    assert "the application failed on purpose" in (logs / "own.log").read_text()
    (logs / "access.log").rename(logs / "access.log.1")
    assert mgr.must("reopen") == "log files reopened\n"
    mgr.must("scale", 2)
    mgr.get("/y")
    wait_for(lambda: "GET /y" in (logs / "access.log").read_text(), "the line")
    assert os.stat(logs / "access.log").st_uid == 0


def test_the_application_may_not_use_the_control_socket(make_open_mgr):
    mgr = make_open_mgr("echo", workers=1, user=USER, control_group="nogroup").start()
    assert stat.S_IMODE(os.stat(mgr.control).st_mode) == 0o660
    # Although it is a member of the group whose members may read.
    os.chmod(mgr.control, 0o666)
    for method, path in (("GET", "/v1/status"), ("GET", "/v1/events"), ("POST", "/v1/stop"),
                         ("POST", "/v1/reload")):
        assert as_uid(ENTRY.pw_uid, mgr, method, path) == 403
    os.chmod(mgr.control, 0o600)
    assert as_uid(ENTRY.pw_uid, mgr, "GET", "/v1/status") is None
    assert mgr.status()["state"] == "running" and mgr.status()["reloads"] == 0


def test_what_it_may_not_read_is_named(make_open_mgr):
    mgr = make_open_mgr("echo", workers=1, user=USER)
    mgr.directory.chmod(0o700)
    mgr.launch()
    assert mgr.wait_exit() == 4
    assert "Permission denied" in mgr.log.splitlines()[-1], mgr.log


@pytest.mark.parametrize("settings, line", [
    ({"user": "no-such-user"}, "user: 'no-such-user' is no user of this machine"),
    ({"group": "no-such-group"}, "group: 'no-such-group' is no group of this machine"),
    ({"user": "12345"}, "user: '12345' has no entry on this machine, so `group` must be given too"),
])
@pytest.mark.parametrize("command", ["run", "check"])
def test_an_unknown_name_is_one_clear_line(make_open_mgr, settings, line, command):
    mgr = make_open_mgr("echo", workers=1, **settings)
    flags = [f"--{name}={value}" for name, value in settings.items()]
    done = subprocess.run([MGR, command, "main:app", "--bind", "127.0.0.1:0", *flags],
                          cwd=mgr.directory, capture_output=True, text=True, timeout=20,
                          env=mgr.environment)
    assert done.returncode == 78 and done.stderr == line + "\n"


def as_nobody(mgr, *arguments):
    return subprocess.run(["setpriv", f"--reuid={ENTRY.pw_uid}", f"--regid={ENTRY.pw_gid}",
                           "--clear-groups", MGR, "check", "main:app", "--python", "/usr/bin/python3",
                           *arguments], cwd=mgr.directory, capture_output=True, text=True, timeout=30,
                          env=mgr.environment)


def test_only_root_can_do_it_and_as_oneself_everybody(make_open_mgr):
    mgr = make_open_mgr("echo", workers=1)
    refused = as_nobody(mgr, "--user", "root")
    assert refused.returncode == 78
    assert refused.stderr == "user: 'root': only root can run the application as another\n"
    refused = as_nobody(mgr, "--group", "daemon")
    assert refused.returncode == 78
    assert refused.stderr == "group: 'daemon': only root can run the application as another\n"
    own = as_nobody(mgr, "--user", USER)
    assert own.returncode == 0, own.stderr


def test_check_loads_it_as_that_user(make_open_mgr):
    mgr = make_open_mgr(workers=1)
    mgr.deploy_text("import os\nassert os.getuid() == 0, os.getuid()\nasync def app(s, r, t): pass\n")
    done = subprocess.run([MGR, "check", "main:app", "--user", USER, "--python", "/usr/bin/python3",
                           "--lifespan", "off"], cwd=mgr.directory, capture_output=True, text=True,
                          timeout=30, env=mgr.environment)
    assert done.returncode == 4 and f"AssertionError: {ENTRY.pw_uid}" in done.stderr
