"""Drives the real mgr from outside: start, wait for readiness, command, load, end, leave nothing.

Nothing here waits by sleeping for luck: every wait polls a condition and has a deadline.
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APPS = Path(__file__).resolve().parent / "apps"
MGR = os.environ.get("MGR_BIN", "")
LOAD_CLIENT = os.environ.get("LOAD_CLIENT", "")
MARK = "E2E_MARK"

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def wait_for(condition, what, seconds=20.0, period=0.02):
    """The first true value of condition(); fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(period)


def processes_with(mark):
    """Pids of live processes (no zombies) whose environment carries the mark."""
    found = []
    needle = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{entry}/environ").read_bytes()
            state = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[0]
            if needle in environment.split(b"\0") and state != "Z":
                found.append(int(entry))
    return found


def alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def free_port(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


class Mgr:
    """One `mgr run` with its application directory, control socket and log.

    `app` names a file of tests/e2e/apps that becomes main.py; more settings are keyword arguments
    (graceful_timeout="2s" becomes --graceful-timeout 2s). `program` runs; commands are MGR's.
    """

    def __init__(self, tmp_path, app="echo", target="main:app", bind="127.0.0.1:0", env=None,
                 command_prefix=(), python="/usr/bin/python3", program=MGR, **settings):
        self.directory = tmp_path / "app"
        self.directory.mkdir(exist_ok=True)
        self.deploy(app)
        self.control = tmp_path / "control.sock"
        self.log_path = tmp_path / "mgr.log"
        self.target = target
        self.command_prefix = list(command_prefix)
        self.program = program
        self.settings = {"bind": bind, "python": python, "control": self.control, **settings}
        self.mark = uuid.uuid4().hex
        self.environment = {key: value for key, value in os.environ.items()
                            if not key.startswith("MGR_") and key not in ("WEB_CONCURRENCY", "PORT")}
        # A rewritten main.py of the same size and second must not be shadowed by its .pyc.
        self.environment |= {MARK: self.mark, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        self.process = None

    # ---- application

    def deploy(self, app):
        """Replaces the application's code by that of apps/APP.py."""
        self.deploy_text((APPS / f"{app}.py").read_text())

    def deploy_text(self, text):
        new = self.directory / "main.py.new"
        new.write_text(text)
        new.rename(self.directory / "main.py")

    # ---- life

    def arguments(self):
        flags = []
        for name, value in self.settings.items():
            for item in value if isinstance(value, list) else [value]:
                if item is not None:
                    flags += [f"--{name.replace('_', '-')}", str(item)]
        return ["run", *([self.target] if self.target else []), *flags]

    def launch(self, **options):
        """Starts `mgr run` without waiting for anything."""

        def die_with_the_test():
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.command_prefix, self.program, *self.arguments()], cwd=self.directory,
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=die_with_the_test, **options)
        return self

    def start(self, seconds=30, **options):
        self.launch(**options)
        self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds=30):
        def ready():
            if self.process is not None:
                assert self.process.poll() is None, f"mgr run ended: {self.process.returncode}\n{self.log}"
            return self.run("ready").returncode == 0

        wait_for(ready, "mgr ready", seconds, period=0.1)

    def wait_exit(self, seconds=20):
        return self.process.wait(timeout=seconds)

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def end(self):
        """TERM, KILL where that does not help; then nothing of its tree may be left."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
                self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout=5)
                self.kill_left()
                raise AssertionError("mgr run did not end within 20 s of SIGTERM") from None
        self.assert_nothing_left()

    def assert_nothing_left(self, seconds=10):
        try:
            wait_for(lambda: not processes_with(self.mark), "no process of the tree is left", seconds)
        except AssertionError:
            left = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in self.kill_left()}
            raise AssertionError(f"left behind: {left}") from None

    def kill_left(self):
        left = processes_with(self.mark)
        for pid in sorted(left, reverse=True):  # children before their parents
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    # ---- commands

    def run(self, command, *arguments, seconds=60):
        """`mgr COMMAND`, for this supervisor; stdout and stderr as text."""
        return subprocess.run(
            [MGR, command, *map(str, arguments), "--control", str(self.control)], cwd=self.directory,
            env=self.environment, capture_output=True, text=True, timeout=seconds)

    def must(self, command, *arguments, seconds=60):
        done = self.run(command, *arguments, seconds=seconds)
        assert done.returncode == 0, f"mgr {command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def status(self):
        return json.loads(self.must("status", "--json"))

    def status_now(self):
        """The same over the control socket, without a process: for fast polling."""
        return self.api("GET", "/v1/status")[1]

    def api(self, method, path, body=None, seconds=60):
        """(status, decoded body, headers) of one request to the control socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(str(self.control))
            payload = b"" if body is None else json.dumps(body).encode()
            fields = "" if body is None else ("Content-Type: application/json\r\n"
                                              f"Content-Length: {len(payload)}\r\n")
            connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: mgr\r\nConnection: close\r\n"
                               f"{fields}\r\n".encode() + payload)
            answer = read_response(connection)
        content = answer.body.decode()
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.status, json.loads(content) if is_json else content, answer.headers

    def workers(self):
        return self.status()["workers"]

    @property
    def address(self):
        """host:port of the first TCP listener."""
        return next(listener["address"] for listener in self.status()["listeners"]
                    if not listener["address"].startswith(("unix:", "fd:")))

    def get(self, path="/", seconds=10, headers=None):
        """(status, body) of one GET."""
        request = urllib.request.Request(f"http://{self.address}{path}", headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=seconds) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def connect(self, seconds=10):
        host, port = self.address.rsplit(":", 1)
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=seconds)
        return connection


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


def read_response(connection, method="GET"):
    """One HTTP response from a socket: by Content-Length, chunks, or up to the end."""
    file = connection.makefile("rb")
    status_line = file.readline()
    assert status_line.startswith(b"HTTP/1."), status_line
    status = int(status_line.split(b" ")[1])
    headers = {}
    while (line := file.readline()) not in (b"\r\n", b""):
        name, value = line.decode("latin-1").split(":", 1)
        headers[name.lower()] = value.strip()
    if method == "HEAD" or status in (204, 304) or status < 200:
        body = b""
    elif headers.get("transfer-encoding") == "chunked":
        body = b""
        while (size := int(file.readline().split(b";")[0], 16)) > 0:
            body += file.read(size)
            assert file.readline() == b"\r\n"
        while file.readline() not in (b"\r\n", b""):
            pass
    elif "content-length" in headers:
        body = file.read(int(headers["content-length"]))
        assert len(body) == int(headers["content-length"]), "truncated"
    else:
        body = file.read()
    return Response(status, headers, body)


class Load:
    """The load client in the background; `stop()` returns its report."""

    def __init__(self, mgr=None, mode="new", rate=200, prefix=(), connect=None, unix=None, path=None,
                 verify=True, **options):
        target = ["--unix", unix] if unix else ["--connect", connect or mgr.address]
        flags = []
        for name, value in options.items():
            flags += [f"--{name.replace('_', '-')}", str(value)]
        self.process = subprocess.Popen(
            [*prefix, LOAD_CLIENT, *map(str, target), "--mode", mode, "--rate", str(rate),
             *(["--verify-id"] if verify else []), *(["--path", path] if path else []), *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        first = self.process.stderr.readline()
        if "first response" not in first:
            out, error = self.process.communicate(timeout=5)
            raise AssertionError(f"load client: {first}{error}{out[:2000]}")

    def stop(self, seconds=60):
        if self.process.poll() is None:
            self.process.terminate()
        return self.result(seconds)

    def result(self, seconds=60):
        """Waits for the end that --seconds or --count brings."""
        out, _ = self.process.communicate(timeout=seconds)
        return json.loads(out)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@contextlib.contextmanager
def no_loss(*loads):
    """Inside, the loads run; afterwards none of them may have lost anything."""
    with contextlib.ExitStack() as stack:
        for load in loads:
            stack.enter_context(load)
        yield
        reports = [load.stop() for load in loads]
        for report in reports:
            assert_none_lost(report)


def assert_none_lost(report):
    assert report["lost"] == 0 and report["left_open"] == 0, json.dumps(report, indent=1)[:4000]
    assert report["ok"] == report["due"] > 0


def connections_in_hand(pid):
    """Client ports of the connections that a stopped process has accepted."""
    sockets = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link))
        if found:
            sockets.add(found[1])
    ports = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in sockets and fields[3] != "0A":
            ports.add(int(fields[2].split(":")[1], 16))
    return ports


def stop_and_kill(pid):
    """Kills a worker that can't change its connections any more; what it had in hand."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: " T " in Path(f"/proc/{pid}/stat").read_text(), "stopped", 5, period=0.0005)
    in_hand = connections_in_hand(pid)
    os.kill(pid, signal.SIGKILL)
    return in_hand


def copy_tree(source, target):
    shutil.copytree(source, target, dirs_exist_ok=True)
