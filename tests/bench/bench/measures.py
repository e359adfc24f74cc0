"""What is measured of one server with one workload."""

import statistics
from dataclasses import dataclass, field

from bench.client import load
from bench.process import Running, resident_bytes

WARM_UP_SHARE = 0.15  # of a run's time


@dataclass
class Result:
    """Of all runs of one server with one workload; what was not measured is None or empty."""
    cpu_us: list = field(default_factory=list)  # per request, one number for each run
    rate: list = field(default_factory=list)  # requests per second
    rss: list = field(default_factory=list)  # bytes, of the process that serves
    connection_cpu_us: list = field(default_factory=list)  # per request on a connection of its own
    connection_rate: list = field(default_factory=list)
    latency: dict | None = None  # {"rate": requests per second, "p50", "p99", "p999": ms}
    instructions: float | None = None  # per request, user mode
    functions: list = field(default_factory=list)


def measure_load(options, server, workload, result):
    """CPU time, requests per second, memory."""
    with Running(server, workload, options) as running:
        load(options, running, seconds=options.seconds * WARM_UP_SHARE)
        before = running.cpu_seconds()
        report = load(options, running, seconds=options.seconds)
        spent = spent_since(running, before)
        result.cpu_us.append(sum(spent.values()) / report["ok"] * 1e6)
        result.rate.append(report["ok_per_second"])
        result.rss.append(resident_bytes(max(spent, key=spent.get)))


def measure_connections(options, server, workload, result):
    """The same with a new connection for each request."""
    with Running(server, workload, options, keep_alive=False) as running:
        load(options, running, seconds=options.seconds * WARM_UP_SHARE)
        before = running.cpu_seconds()
        report = load(options, running, seconds=options.seconds)
        spent = spent_since(running, before)
        result.connection_cpu_us.append(sum(spent.values()) / report["ok"] * 1e6)
        result.connection_rate.append(report["ok_per_second"])


def measure_latency(options, server, workload, result):
    """At half of the requests per second that it has shown, which come when they are due."""
    rate = statistics.median(result.rate) / 2
    with Running(server, workload, options) as running:
        load(options, running, seconds=options.seconds * WARM_UP_SHARE)
        report = load(options, running, rate=rate, seconds=options.latency_seconds)
        result.latency = {"rate": rate, **{each: report["latency_ms"][each]
                                           for each in ("p50", "p99", "p999")}}


def spent_since(running, before):
    return {pid: seconds - before.get(pid, 0) for pid, seconds in running.cpu_seconds().items()}
