"""The load client of tests/tools/load, as the benchmark uses it."""

import json
import subprocess

from bench.process import Failed


def load(options, running, *, count=None, seconds=None, rate=None):
    """Sends requests to a running server, so many or for so long; returns the client's report. `rate`:
    requests per second, open loop. Every request has to be answered."""
    workload = running.workload
    mode = "keep" if running.keeps_alive else "new"
    command = [options.load_client, "--connect", f"127.0.0.1:{running.port}", "--mode", mode,
               "--connections", str(running.connections), "--path", workload.path,
               "--expect-body-prefix", workload.expect, "--timeout", "60"]
    if workload.body_size is not None:
        command += ["--body-size", str(workload.body_size)]
    for name, value in (("--count", count), ("--seconds", seconds), ("--rate", rate)):
        if value is not None:
            command += [name, str(value)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise Failed(f"{running.title}, '{workload.title}': {done.stderr}{done.stdout[:2000]}\n{running.log()}")
    return json.loads(done.stdout)
