"""Everything that can happen to a service, in an order that nobody thought of, under load.

A seeded random sequence of actions; after each, the service must come to rest, and at rest nothing may be
left over. At the end every request that was lost must have been in the hands of a process that was killed.

CHAOS_SEED repeats a sequence (its timing differs), CHAOS_SECONDS makes it longer, CHAOS_ONLY=storm,hang takes
these actions alone.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from mgr_harness import (  # noqa: E402
    MGR, Load, Mgr, alive, connections_in_hand, processes_with, read_response, stop_and_kill, wait_for)

SECONDS = float(os.environ.get("CHAOS_SECONDS") or 45)
SEED = int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(4), "big"))
APP = (Path(__file__).resolve().parent / "app.py").read_text()
MOST_WORKERS = 4
REST = 20.0  # seconds within which everything must have settled

STARTUP = "async def started():\n    pass"
BROKEN = {
    "syntax": APP + "\ndef broken(:\n",
    "import": "import no_such_module\n" + APP,
    "no application": APP.replace("async def app(", "async def other("),
    "startup": APP.replace(STARTUP, "async def started():\n    raise RuntimeError('no database')"),
    "exit at import": "import os\nos._exit(9)\n",
    "early death": APP.replace(STARTUP, "async def started():\n    import threading\n"
                                        "    threading.Timer(0.05, os._exit, [7]).start()"),
}
BAD_FILES = ["workers: many\n", "no_such_setting: 1\n", "keep_alive: [1]\n", "chdir: /nowhere\n", "a: b: c\n"]


class Chaos:
    def __init__(self, tmp_path):
        self.random = random.Random(SEED)
        self.mgr = Mgr(tmp_path, app="echo")
        self.mgr.deploy_text(APP)
        self.file = {"workers": 2, "min_ready": "100ms", "graceful_timeout": "5s",
                     "crash_backoff": "10ms..200ms", "boot_timeout": "5s", "lifespan": "on",
                     "timeout": "1s"}
        self.write_file()
        self.version = 0
        self.target = 2
        self.in_hand = []  # (port, when the process that held it was killed)
        self.fds = {}      # by number of workers: what the supervisor has open at rest
        self.count = Counter()

    # ---- actions; each returns when its command has

    def actions(self):
        wanted = os.environ.get("CHAOS_ONLY", "").split(",")
        names = [name for name in dir(self) if name.startswith("do_")
                 and (wanted == [""] or name.removeprefix("do_") in wanted)]
        return sorted(names)

    def do_reload(self):
        self.deploy_next()
        self.mgr.must("reload")
        assert self.get("/version") == b"%d" % self.version

    def do_reload_by_signal(self):
        self.deploy_next()
        before = self.status()["reloads"]
        self.mgr.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.status()["reloads"] == before + 1, "reload by SIGHUP")
        assert self.get("/version") == b"%d" % self.version

    def do_failing_deploy(self):
        kind = self.random.choice(sorted(BROKEN))
        self.note(kind)
        self.mgr.deploy_text(BROKEN[kind])
        generation = self.status()["generation"]
        done = self.mgr.run("reload")
        assert done.returncode == 1, done.stdout + done.stderr
        assert self.status()["generation"] == generation
        self.deploy(self.version)

    def do_bad_configuration(self):
        text = self.random.choice(BAD_FILES)
        self.note(repr(text))
        (self.mgr.directory / "mgr.yaml").write_text(text)
        done = self.mgr.run("reload")
        assert done.returncode == 1
        assert "mgr.yaml" in done.stderr or "/nowhere" in done.stderr, done.stdout + done.stderr
        self.write_file()

    def do_scale(self):
        self.scale(self.random.randint(1, MOST_WORKERS))

    def do_scale_by_signal(self):
        more = self.target < MOST_WORKERS and (self.target == 1 or self.random.random() < 0.5)
        self.target += 1 if more else -1
        self.note(str(self.target))
        self.mgr.process.send_signal(signal.SIGTTIN if more else signal.SIGTTOU)
        wait_for(lambda: self.status()["target_workers"] == self.target, "scale by signal")

    def do_workers_of_the_file(self):
        """A number in the file ends what was scaled."""
        self.target = self.file["workers"] = 3 - self.file["workers"]  # 1, 2, 1 …
        self.write_file()
        self.mgr.must("reload")
        wait_for(lambda: self.status()["target_workers"] == self.target, "the file's number")

    def do_restart_all(self):
        self.mgr.must("restart")

    def do_restart_one(self):
        self.mgr.must("restart", self.random.randrange(self.target))

    def do_kill_workers(self):
        for _ in range(self.random.randint(1, 3)):
            self.kill_worker()

    def do_kill_mold(self):
        for pid in self.molds():
            self.kill(pid)

    def do_kill_mold_and_worker(self):
        self.do_kill_mold()
        self.kill_worker()

    def do_block_for_a_moment(self):
        """Below `timeout`: everybody is served in the end."""
        with self.connection() as connection:
            assert self.ask(connection, "/block?0.4") == b"blocked"

    def do_hang(self):
        """Beyond `timeout`: dumped, replaced, killed; what it had in hand is lost."""
        with self.connection() as connection:
            pid = int(self.ask(connection, "/pid"))
            connection.sendall(b"GET /block?30 HTTP/1.1\r\nHost: chaos\r\n\r\n")
            held = set()

            def gone():
                with contextlib.suppress(OSError):
                    held.update(connections_in_hand(pid))
                return not alive(pid)

            wait_for(gone, "the worker that hangs is killed", 15)
            self.in_hand += [(port, time.time()) for port in held]

    def do_stop_a_worker_for_a_moment(self):
        pid = self.random.choice(self.pids())
        os.kill(pid, signal.SIGSTOP)
        deadline = time.monotonic() + 0.4
        wait_for(lambda: time.monotonic() > deadline, "the moment is over", 5)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def do_recycle(self):
        """Under load, max_requests is reached within a second."""
        before = self.restarts("max_requests")
        self.file["max_requests"], self.file["max_requests_jitter"] = 60, 30
        self.write_file()
        self.mgr.must("reload")
        wait_for(lambda: self.restarts("max_requests") >= before + 3, "three workers were recycled", 30)
        del self.file["max_requests"], self.file["max_requests_jitter"]
        self.write_file()
        self.mgr.must("reload")

    def do_drain_and_undrain(self):
        self.mgr.must("drain")
        assert self.mgr.run("ready").returncode == 1
        self.mgr.must("undrain")
        self.mgr.must("ready")

    def do_upgrade(self):
        self.mgr.must("upgrade")

    def do_storm(self):
        """A reload, and what else comes to mind while it runs. Whether it succeeds is its own affair."""
        deeds = ["kill", "scale", "restart", "pause", "upgrade"]
        if self.random.random() < 0.5:
            self.deploy_next()
            deeds.append("mold")  # its successor loads what is on the disk, which must be good then
        else:
            self.mgr.deploy_text(BROKEN[self.random.choice(sorted(BROKEN))])
        running = [self.start("reload")]
        for _ in range(self.random.randint(1, 4)):
            deed = self.random.choice(deeds)
            self.note(deed)
            if deed == "kill":
                self.kill_worker()
            elif deed == "mold":
                self.do_kill_mold()
            elif deed == "scale":
                self.target = self.random.randint(1, MOST_WORKERS)
                running.append(self.start("scale", self.target))
            elif deed in ("restart", "upgrade"):
                running.append(self.start(deed))
            else:
                until = time.monotonic() + self.random.uniform(0, 0.3)
                wait_for(lambda: time.monotonic() > until, "a pause", 5)
        for command in running:
            command.communicate(timeout=60)
        self.target = self.status()["target_workers"]
        self.deploy(self.version)
        self.rest()
        self.mgr.must("reload")

    # ---- their means

    def note(self, text):
        print(f"    {text}", flush=True)

    def write_file(self):
        (self.mgr.directory / "mgr.yaml").write_text(
            "".join(f"{name}: {value}\n" for name, value in self.file.items()))

    def deploy(self, version):
        self.mgr.deploy_text(APP.replace("VERSION = 0", f"VERSION = {version}"))

    def deploy_next(self):
        self.version += 1
        self.deploy(self.version)

    def scale(self, workers):
        self.note(str(workers))
        self.mgr.must("scale", workers)
        self.target = workers

    def start(self, command, *arguments):
        return subprocess.Popen(
            [MGR, command, *map(str, arguments), "--control", str(self.mgr.control)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.mgr.directory)

    def status(self):
        return self.mgr.status_now()

    def connection(self):
        return contextlib.closing(self.mgr.connect())

    @staticmethod
    def ask(connection, path):
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: chaos\r\n\r\n".encode())
        return read_response(connection).body

    def get(self, path):
        with self.connection() as connection:
            return self.ask(connection, path)

    def pids(self):
        return wait_for(lambda: [worker["pid"] for worker in self.status()["workers"]
                                 if worker["pid"] and worker["state"] == "ready"], "a worker is ready")

    def molds(self):
        status = self.status()
        workers = {entry["pid"] for entry in status["workers"] + status["leaving"]}
        return [pid for pid in processes_with(self.mgr.mark) if pid not in workers and pid != self.mgr.pid
                and parent_of(pid) == self.mgr.pid]

    def kill(self, pid):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, AssertionError):
            self.in_hand += [(port, time.time()) for port in stop_and_kill(pid)]
        wait_for(lambda: not alive(pid), "the killed process is gone")

    def kill_worker(self):
        self.kill(self.random.choice(self.pids()))

    def restarts(self, reason):
        text = self.mgr.api("GET", "/metrics")[1]
        line = f'mgr_worker_restarts_total{{reason="{reason}"}} '
        return int(next(row for row in text.splitlines() if row.startswith(line)).split()[-1])

    # ---- what must hold at rest

    def rest(self):
        wait_for(self.is_at_rest, f"rest, with {self.target} workers", REST, period=0.05)

    def is_at_rest(self):
        status = self.status()
        workers = status["workers"]
        return (status["state"] == "running" and not status["leaving"]
                and status["target_workers"] == len(workers)
                and all(worker["state"] == "ready" for worker in workers)
                and {worker["generation"] for worker in workers} == {status["generation"]}
                and len(processes_with(self.mgr.mark)) == len(workers) + 2)

    def check_rest(self):
        self.rest()
        status = self.status()
        assert status["target_workers"] == self.target
        self.mgr.must("ready")
        expected = self.fds[self.target]
        wait_for(lambda: open_by(self.mgr.pid) == expected,
                 f"no descriptor of the supervisor is left over: {open_by(self.mgr.pid)}, not {expected}", 10)
        for pid in self.pids():
            wait_for(lambda pid=pid: own_of_worker(pid) == self.worker_fds,
                     f"no descriptor of a worker is left over: {own_of_worker(pid)}, not {self.worker_fds}", 10)

    def measure(self):
        """What is open at rest, for each number of workers; every slot has its sockets then."""
        for workers in (MOST_WORKERS, *range(1, MOST_WORKERS + 1), 2):
            self.scale(workers)
            self.rest()
            self.fds[workers] = settled(lambda: open_by(self.mgr.pid))
        self.worker_fds = settled(lambda: own_of_worker(self.pids()[0]))

    # ---- the run

    def run(self):
        deadline = time.monotonic() + SECONDS
        self.mgr.start()
        self.measure()
        names = self.actions()
        with Load(self.mgr, "new", 100, details=100000) as fresh, \
                Load(self.mgr, "keep", 100, connections=8, depth=2, details=100000) as kept:
            while time.monotonic() < deadline:
                name = self.random.choice(names)
                print(f"  {name.removeprefix('do_')}", flush=True)
                getattr(self, name)()
                self.check_rest()
                self.count[name] += 1
            reports = [fresh.stop(), kept.stop()]
        print(f"  {sum(self.count.values())} actions: {dict(self.count)}", flush=True)
        for report in reports:
            self.check_losses(report)

    def check_losses(self, report):
        kinds = dict(Counter(loss["kind"] for loss in report["losses"]))
        print(f"  {report['due']} requests, {report['lost']} lost {kinds}", flush=True)
        assert report["due"] > 20 * SECONDS
        assert report["ok"] + report["lost"] == report["due"] and report["left_open"] == 0
        assert report["lost"] == len(report["losses"])
        for loss in report["losses"]:
            killed = [when for port, when in self.in_hand if port == loss["local_port"]]
            assert any(abs(when - loss["wall_s"]) < 15 for when in killed), loss
            assert loss["kind"] in ("reset", "eof_before_response", "truncated", "raced"), loss


def parent_of(pid):
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return None


def open_by(pid):
    """What a process has open, by kind."""
    kinds = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kinds[os.readlink(entry).split("[")[0].split(" ")[0]] += 1
    return kinds


def own_of_worker(pid):
    """The same without sockets: those of clients and listeners come and go."""
    try:
        return Counter({kind: count for kind, count in open_by(pid).items() if kind != "socket:"})
    except OSError:
        return None


def settled(value):
    """A value that stays the same for a quarter of a second."""
    seen = [value(), time.monotonic()]

    def same():
        now = value()
        if now != seen[0]:
            seen[:] = now, time.monotonic()
        return time.monotonic() - seen[1] > 0.25

    wait_for(same, "it has settled", 10)
    return seen[0]


@pytest.mark.parametrize("seed", [SEED])
def test_nothing_is_lost_or_left_over(tmp_path, seed):
    print(f"\nCHAOS_SEED={seed} CHAOS_SECONDS={SECONDS:g}", flush=True)
    chaos = Chaos(tmp_path)
    try:
        chaos.run()
        chaos.mgr.must("stop")
        assert chaos.mgr.wait_exit() == 0
        chaos.mgr.assert_nothing_left()
    except BaseException:
        print(chaos.mgr.log[-20000:], flush=True)
        raise
    finally:
        chaos.mgr.end()
