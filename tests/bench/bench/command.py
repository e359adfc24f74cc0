"""The command line: which workloads, servers and measures; runs them, prints the tables."""

import argparse
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from bench import measures, table
from bench.callgrind import count_instructions
from bench.process import Failed
from bench.servers import ROOT, SERVERS, answer_of
from bench.workloads import WORKLOADS

MEASURES = ["cpu", "connections", "latency", "instructions"]
EPILOG = f"""workloads: {', '.join(f'{each.key} ({each.title})' for each in WORKLOADS)}.
servers: {', '.join(each.key for each in SERVERS)}. measures: cpu (with memory and requests per second),
connections (one for each request), latency (open loop, at half of the rate that `cpu` has shown),
instructions (callgrind, exact; --functions says where they go)."""


def parse_arguments():
    def listed(keys):
        def parse(text):
            chosen = text.split(",")
            unknown = [each for each in chosen if each not in keys]
            if unknown:
                raise argparse.ArgumentTypeError(f"'{unknown[0]}': one of {', '.join(keys)} expected")
            return [each for each in keys if each in chosen]
        return parse

    workloads = [each.key for each in WORKLOADS]
    servers = [each.key for each in SERVERS]
    parser = argparse.ArgumentParser(
        prog="tests/bench/run", epilog=EPILOG,
        description="CPU time per request of mgr and its peers, in alternating runs on this machine with "
                    "one worker each, and what else a request costs. Prints tables.")
    parser.add_argument("--workloads", type=listed(workloads), default=workloads, metavar="A,B…")
    parser.add_argument("--servers", type=listed(servers), default=servers, metavar="A,B…")
    parser.add_argument("--measures", type=listed(MEASURES), default=MEASURES, metavar="A,B…")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each server, alternating (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of load in each run (%(default)s)")
    parser.add_argument("--latency-seconds", type=float, default=10.0,
                        help="of load at the fixed rate (%(default)s)")
    parser.add_argument("--instruction-requests", type=int, default=3200,
                        help="requests under callgrind (%(default)s)")
    parser.add_argument("--functions", action="store_true",
                        help="name the functions that take most of the instructions")
    parser.add_argument("--connections", type=int, default=32, help="kept alive (%(default)s)")
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="where mgr was built")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there, too")
    options = parser.parse_args()
    if "latency" in options.measures and "cpu" not in options.measures:
        parser.error("--measures latency needs cpu, which finds the rate")
    options.load_client = options.build / "tests/tools/load_client"
    return options


def chosen(options):
    """{workload: [servers]}"""
    servers = [each for each in SERVERS if each.key in options.servers]
    rows = {workload: [server for server in servers if answer_of(server, workload)]
            for workload in WORKLOADS if workload.key in options.workloads}
    return {workload: answering for workload, answering in rows.items() if answering}


def check_what_is_needed(options, rows):
    if not options.load_client.exists():
        raise Failed(f"{options.load_client}: build it first: "
                     "cmake --preset release && cmake --build --preset release")
    missing = {server.package for servers in rows.values() for server in servers
               if server.package and not is_installed(options, server)}
    if "instructions" in options.measures and not shutil.which("valgrind"):
        missing.add("valgrind")
    if missing:
        raise Failed(f"apt-get install {' '.join(sorted(missing))}, or choose with --servers, --measures")
    for workload in rows:
        if not has_modules(options, workload.modules):
            raise Failed(f"'{workload.title}' needs {', '.join(workload.modules)} in {options.python}")


def is_installed(options, server):
    if server.modules:
        return has_modules(options, server.modules)
    return shutil.which(server.program or server.key) is not None


def has_modules(options, modules):
    if not modules:
        return True
    return subprocess.run([options.python, "-c", f"import {', '.join(modules)}"],
                          capture_output=True).returncode == 0


def say(text):
    print(text, file=sys.stderr, flush=True)


def measure(options, workload, servers):
    """{server: Result}. The servers take turns in each round, so that all see the same weather."""
    results = {server: measures.Result() for server in servers}
    for turn in range(options.rounds):
        for server, result in results.items():
            if "cpu" in options.measures:
                measures.measure_load(options, server, workload, result)
                say(f"{workload.title}, round {turn + 1}: {server.title}: {result.cpu_us[-1]:.1f} µs")
            if "connections" in options.measures:
                measures.measure_connections(options, server, workload, result)
    for server, result in results.items():
        if "latency" in options.measures:
            measures.measure_latency(options, server, workload, result)
        if "instructions" in options.measures:
            result.instructions, result.functions = count_instructions(options, server, workload)
            say(f"{workload.title}: {server.title}: {result.instructions:.0f} instructions")
    return results


def print_results(options, workload, results):
    reference = next((result for server, result in results.items() if server.key == "mgr"),
                     measures.Result())
    print("\n" + table.table(workload, results, reference))
    for server, result in results.items():
        if options.functions and result.functions:
            print(f"\n{server.title}, instructions per request in:\n" + "\n".join(result.functions))
    sys.stdout.flush()


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("tests/bench/run: ended"))  # and so its servers
    try:
        rows = chosen(options)
        check_what_is_needed(options, rows)
        everything = {}
        for workload, servers in rows.items():
            results = measure(options, workload, servers)
            print_results(options, workload, results)
            everything[workload.key] = {server.key: asdict(result) for server, result in results.items()}
            if options.json:
                options.json.write_text(json.dumps(everything, indent=1) + "\n")
    except Failed as failure:
        sys.exit(f"tests/bench/run: {failure}")
