"""Memory of mold and workers after so many requests: what each has for itself, and its share."""

import argparse
import contextlib
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.process import Failed, free_port
from bench.servers import ROOT

MIB = 1 << 20


@dataclass(frozen=True)
class Example:
    key: str
    title: str
    directory: str  # under examples/
    target: str
    path: str
    modules: str


EXAMPLES = [
    Example("fastapi", "FastAPI", "fastapi", "main:app", "/hello/world", "fastapi"),
    Example("django", "Django (ASGI)", "django", "main:asgi_application", "/items", "django"),
]


@dataclass
class Memory:
    """Bytes, of one process (proc_pid_smaps(5))."""
    unique: int  # nobody else has these pages
    proportional: int  # shared ones count in part
    resident: int


def memory_of(pid):
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size = line.split()[:2]
        sizes[name.rstrip(":")] = int(size) * 1024
    return Memory(sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["Pss"], sizes["Rss"])


class Service:
    """`mgr run` of an example, from `with` to its end."""

    def __init__(self, options, example, preload):
        self.options = options
        self.example = example
        self.preload = preload
        self.port = free_port()
        self._temporary = tempfile.TemporaryDirectory()
        self._control = Path(self._temporary.name) / "control"
        self._log = Path(self._temporary.name) / "log"

    def __enter__(self):
        # As it is deployed: byte code in a cache that is there already.
        directory = Path(self._temporary.name) / "app"
        shutil.copytree(ROOT / "examples" / self.example.directory, directory)
        command = [self.options.build / "bin/mgr", "run", self.example.target, "--bind",
                   f"127.0.0.1:{self.port}", "--workers", self.options.workers, "--preload", self.preload,
                   "--python", self.options.python, "--control", self._control]
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(list(map(str, command)), cwd=directory, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while self._mgr("ready").returncode != 0:
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.__exit__()
                raise Failed(f"{self.example.title} does not serve:\n{self._log.read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=40)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _mgr(self, command, *arguments):
        return subprocess.run([self.options.build / "bin/mgr", command, "--control", self._control,
                               *arguments], capture_output=True, text=True)

    def load(self):
        """So many requests for each worker; connections are spread over them by chance."""
        wanted = self.options.requests
        while (least := min(worker["requests"] for worker in self.workers())) < wanted:
            command = [self.options.build / "tests/tools/load_client", "--connect",
                       f"127.0.0.1:{self.port}", "--mode", "keep", "--connections", "64", "--path",
                       self.example.path, "--count", str((wanted - least) * self.options.workers)]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=1800)
            if done.returncode != 0:
                raise Failed(f"{self.example.title}: {done.stderr}{done.stdout[:2000]}")

    def workers(self):
        return json.loads(self._mgr("status", "--json").stdout)["workers"]

    def mold(self):
        """The child of the supervisor that is no worker."""
        workers = {worker["pid"] for worker in self.workers()}
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(pid for pid in map(int, children) if pid not in workers)


def measure(options, example, preload):
    with Service(options, example, preload) as service:
        service.load()
        return {"mold": memory_of(service.mold()), "supervisor": memory_of(service.process.pid),
                "workers": [memory_of(worker["pid"]) for worker in service.workers()]}


def mib(size):
    return f"{size / MIB:.1f}"


def row(title, memories):
    """Medians; the sum of the proportional sizes is what all of them take."""
    median = Memory(*(statistics.median(getattr(memory, name) for memory in memories)
                      for name in ("unique", "proportional", "resident")))
    return (f"| {title:<28} | {mib(median.unique):>10} | {mib(median.proportional):>16} "
            f"| {mib(median.resident):>8} |")


def table(example, preload, measured):
    workers = measured["workers"]
    everything = [measured["mold"], measured["supervisor"], *workers]
    return "\n".join([
        f"**{example.title}**, `preload: {preload}`: {mib(sum(each.proportional for each in everything))} MiB "
        "in all", "",
        "| MiB                          | unique USS | proportional PSS | resident |",
        "|------------------------------|------------|------------------|----------|",
        row("mold", [measured["mold"]]),
        row(f"worker, median of {len(workers)}", workers),
        row("supervisor", [measured["supervisor"]]), ""])


def parse_arguments():
    keys = [example.key for example in EXAMPLES]
    parser = argparse.ArgumentParser(
        prog="tests/bench/memory",
        description="Unique (USS) and proportional (PSS) set size of mold and workers of the examples "
                    "after so many requests, with and without preload. Prints tables.")
    parser.add_argument("--examples", nargs="+", choices=keys, default=keys)
    parser.add_argument("--preload", nargs="+", choices=["on", "off"], default=["on", "off"])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--requests", type=int, default=10_000, help="of each worker (%(default)s)")
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="where mgr was built")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there, too")
    return parser.parse_args()


def main():
    options = parse_arguments()
    options.build = options.build.resolve()
    everything = {}
    try:
        for example in EXAMPLES:
            if example.key not in options.examples:
                continue
            if not (ROOT / "examples" / example.directory).is_dir():
                print(f"{example.title}: no examples/{example.directory}", file=sys.stderr)
                continue
            for preload in options.preload:
                measured = measure(options, example, preload)
                everything[f"{example.key} {preload}"] = {
                    "mold": asdict(measured["mold"]), "supervisor": asdict(measured["supervisor"]),
                    "workers": [asdict(each) for each in measured["workers"]]}
                print(table(example, preload, measured), flush=True)
    except Failed as failure:
        sys.exit(f"tests/bench/memory: {failure}")
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1) + "\n")
