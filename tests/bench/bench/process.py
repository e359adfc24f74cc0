"""One run of a server: start, wait until it serves, look at its processes, end."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from bench.servers import APPS, Place, answer_of


class Failed(Exception):
    pass


def free_port():
    """Below those that the kernel gives to whoever asks for any (ip_local_port_range(7)): nobody else gets it
    before the server does."""
    for port in random.sample(range(20_000, 30_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("no port from 20000 to 29999 is free")


class Running:
    """A server that serves one workload, from `with` to its end. `prefix`: a command that runs it, such
    as valgrind, in which {directory} is that of this run; `patience`: seconds until it must serve;
    `keep_alive`: whether connections are kept, if the server can."""

    def __init__(self, server, workload, options, prefix=(), patience=30, keep_alive=True):
        self.title = server.title
        self.keeps_alive = keep_alive and workload.key not in server.closes
        self.connections = options.connections
        if self.keeps_alive and server.connections:
            self.connections = min(self.connections, server.connections)
        self.workload = workload
        self.port = free_port()
        self._patience = patience
        self._temporary = tempfile.TemporaryDirectory()
        self.directory = Path(self._temporary.name)
        place = Place(options.build, options.python, self.directory, self.port, self.keeps_alive)
        command = server.command(place, *answer_of(server, workload))
        self._command = [*(part.format(directory=self.directory) for part in prefix), *map(str, command)]
        self._log = self.directory / "log"
        self.process = None

    def __enter__(self):
        environment = {**os.environ, "PYTHONPATH": str(APPS), "PYTHONHASHSEED": "0"}
        with open(self._log, "wb") as out:
            self.process = subprocess.Popen(self._command, stdout=out, stderr=out, cwd=APPS,
                                            env=environment, stdin=subprocess.DEVNULL)
        try:
            self._wait_until_served()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        self._temporary.cleanup()

    def stop(self):
        """Ends it gracefully; its children are killed if that takes too long."""
        if self.process.poll() is not None:
            return
        processes = self.tree()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=self._patience)
        except subprocess.TimeoutExpired:
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()

    def log(self):
        return self._log.read_text(errors="replace")

    def _wait_until_served(self):
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                with socket.create_connection(("127.0.0.1", self.port), timeout=self._patience) as client:
                    client.sendall(f"GET {self.workload.path} HTTP/1.1\r\nHost: x\r\n"
                                   "Connection: close\r\n\r\n".encode())
                    if client.recv(100).startswith(b"HTTP/1.1 200"):
                        return
            time.sleep(0.05)
        raise Failed(f"{self.title} does not serve '{self.workload.title}':\n{self.log()}")

    # ---- its processes

    def tree(self):
        """The process and all of its descendants."""
        found, children = [self.process.pid], {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                parent = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[1]
                children.setdefault(int(parent), []).append(int(entry))
        for each in found:
            found += children.get(each, [])
        return found

    def cpu_seconds(self):
        """{pid: time on a processor, user and system, of every thread, in nanosecond steps}."""
        return {pid: sum(int((task / "schedstat").read_text().split()[0])
                         for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9
                for pid in self.tree()}


def resident_bytes(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
