"""Plays the supervisor for one mold: starts mgr-worker with the descriptors of
common/ipc/inherited.h, speaks the channels' records (common/ipc/messages.h) and makes requests."""

import array
import ctypes
import fcntl
import http.client
import json
import os
import signal
import socket
import time

PROGRAM = os.environ["MGR_WORKER"]
RECORD_BYTES = 320  # common/ipc/scoreboard.h
RECORDS = 2048
PR_SET_CHILD_SUBREAPER = 36
TIMEOUT = 20.0


def become_subreaper():
    assert ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def memfd(data):
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    os.write(fd, data)
    return fd


def above_inherited(fd):
    """A duplicate whose number collides with none of those that the mold inherits."""
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 50)
    os.close(fd)
    return copy


class Channel:
    def __init__(self):
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(TIMEOUT)
        self.words = None

    def send(self, kind, fds=(), **fields):
        text = json.dumps({"v": 1, "type": kind, **fields}).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.ours.sendmsg([text], rights)

    def receive(self):
        """The next record as a dict, its traceback under "traceback"; None at the end. Those that tell
        the interpreter and bring the last words are no answers to anything."""
        data, ancillary, _, _ = self.ours.recvmsg(4096, socket.CMSG_SPACE(64 * 4))
        if not data:
            return None
        record = json.loads(data)
        for level, kind, rights in ancillary:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            for fd in array.array("i", rights[:len(rights) // 4 * 4]):
                file = open(fd, "rb")
                if record["type"] == "last_words":
                    self.words = file
                    continue
                with file:
                    record["traceback"] = text_of(file)
        return self.receive() if record["type"] in ("executes", "last_words") else record

    def last_words(self):
        return text_of(self.words)

    def close(self):
        self.ours.close()
        if self.words:
            self.words.close()


def text_of(file):
    return os.pread(file.fileno(), 1 << 20, 0).decode()


class Mold:
    """A running mold. `settings` go to it as the supervisor would send them; `log` is a path."""

    def __init__(self, directory, app, load=True, python=None, environment=None, **settings):
        self.directory = str(directory)
        self.log_path = os.path.join(self.directory, "mold.log")
        self.output_path = os.path.join(self.directory, "output.log")
        self.access_log_path = settings.get("access_log")
        self.channel = Channel()
        self.workers = []
        values = {"app": app, "chdir": self.directory, **settings}
        if python:
            values["python"] = python
        order = {"v": 1, "generation": 1, "load": load, "check_only": False, "settings": values}
        self.scoreboard = os.memfd_create("scoreboard", os.MFD_CLOEXEC)
        os.ftruncate(self.scoreboard, RECORD_BYTES * RECORDS)
        self.pid = self._start(json.dumps(order).encode(), environment)
        self.status = None

    def _start(self, order, environment):
        opening = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        inherited = {3: above_inherited(self.channel.theirs.detach()),
                     4: above_inherited(memfd(order)),
                     5: above_inherited(os.dup(self.scoreboard)),
                     6: above_inherited(os.open(self.log_path, opening, 0o600)),
                     2: above_inherited(os.open(self.output_path, opening, 0o600))}
        if self.access_log_path:
            inherited[7] = above_inherited(os.open(self.access_log_path, opening, 0o600))
        inherited[1] = fcntl.fcntl(inherited[2], fcntl.F_DUPFD_CLOEXEC, 50)
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in inherited.items()]
        variables = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
        variables.pop("VIRTUAL_ENV", None)
        variables.update(environment or {})
        pid = os.posix_spawn(PROGRAM, [PROGRAM], variables, file_actions=actions, setpgroup=0)
        for fd in inherited.values():
            os.close(fd)
        return pid

    def loaded(self):
        record = self.channel.receive()
        assert record and record["type"] == "loaded", (record, self.output(), self.log())
        return record

    def load_failed(self):
        record = self.channel.receive()
        assert record and record["type"] == "load_failed", (record, self.output(), self.log())
        return record

    def fork(self, slot=0, record=None):
        return Worker(self, slot, len(self.workers) if record is None else record)

    def ready_worker(self, slot=0):
        self.loaded()
        worker = self.fork(slot)
        worker.ready()
        return worker

    def serving_worker(self, slot=0):
        worker = self.ready_worker(slot)
        worker.listen()
        return worker

    def wait(self):
        if self.status is None:
            self.status = wait_for(self.pid)
        return self.status

    def output(self):
        with open(self.output_path) as file:
            return file.read()

    def log(self):
        with open(self.log_path) as file:
            return file.read()

    def wait_for_log(self, text):
        wait_until(lambda: text in self.log(), f"{text!r} in the log:\n{self.log()}")

    def close(self):
        for worker in self.workers:
            worker.end()
        self.channel.close()
        if self.status is None:
            self.status = wait_for(self.pid)
        os.close(self.scoreboard)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Worker:
    next_identity = 1

    def __init__(self, mold, slot, record):
        self.mold = mold
        self.slot = slot
        self.record = record
        self.identity = Worker.next_identity
        Worker.next_identity += 1
        self.channel = Channel()
        self.listener = None
        self.status = None
        mold.workers.append(self)
        mold.channel.send("fork", [self.channel.theirs.fileno()], worker=self.identity, slot=slot,
                          record=record)
        self.channel.theirs.close()
        answer = mold.channel.receive()
        assert answer and answer["type"] == "forked", (answer, mold.output(), mold.log())
        assert answer["worker"] == self.identity
        self.pid = answer["pid"]

    def receive(self, kind):
        record = self.channel.receive()
        assert record and record["type"] == kind, (record, self.mold.output(), self.mold.log())
        return record

    def ready(self):
        return self.receive("ready")

    def listen(self, identity=1, listener=None, shared=False):
        """Gives it a listening socket (a new one by default)."""
        if listener is None:
            listener = socket.create_server(("127.0.0.1", 0))
        self.listener = listener
        name = listener.getsockname()
        address = f"unix:{name}" if isinstance(name, str) else f"{name[0]}:{name[1]}"
        entry = {"id": identity, "address": address, "shared": shared}
        self.channel.send("listen", [listener.fileno()], entries=[entry])

    @property
    def port(self):
        return self.listener.getsockname()[1]

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)

    def request(self, method="GET", path="/", body=None, headers=None):
        """One request on a connection of its own: (status, body)."""
        connection = self.connection()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def json(self, *arguments, **named):
        status, body = self.request(*arguments, **named)
        assert status == 200, (status, body, self.mold.log(), self.mold.output())
        return json.loads(body)

    def raw(self, data=b""):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT)
        if data:
            connection.sendall(data)
        return connection

    def drain(self, timeout_ms=5000, last=False):
        self.channel.send("drain", last=last, timeout_ms=timeout_ms)

    def counters(self):
        data = os.pread(self.mold.scoreboard, RECORD_BYTES, self.record * RECORD_BYTES)
        numbers = array.array("Q", data)
        return {"pid": numbers[0] >> 32, "running_since_ns": numbers[1], "busy_ns": numbers[2],
                "connections": numbers[6], "in_flight": numbers[7], "requests": list(numbers[9:15]),
                "threads": numbers[36], "threads_running": numbers[37],
                "threads_busy_ns": numbers[39]}

    def wait(self):
        if self.status is None:
            self.status = wait_for(self.pid)
        return self.status

    def end(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        self.channel.close()
        if self.listener:
            self.listener.close()


def read_all(connection):
    """To the end of the connection, or `<reset>`."""
    data = b""
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            return data + b"<reset>"
        if not part:
            return data
        data += part


def wait_for(pid):
    """Its exit status, or the negative number of the signal that ended it."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"process {pid} did not end")


def wait_until(condition, what, timeout=TIMEOUT):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not reached: {what}"
        time.sleep(0.002)
