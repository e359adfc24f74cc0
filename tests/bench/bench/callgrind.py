"""User instructions per request, exactly: the server runs under callgrind, and what a short run of load has
taken is subtracted from what a longer one has. So neither the server's start nor that of the connections is
in the result, and nothing of what else the machine does. The counts of all of its processes are added;
those that do not serve stand still.
"""

import re
import subprocess

from bench.client import load
from bench.process import Failed, Running

VALGRIND = ["valgrind", "--tool=callgrind", "--trace-children=yes", "--callgrind-out-file={directory}/out.%p"]
PATIENCE = 180  # seconds, for a server that starts fifty times slower


def count_instructions(options, server, workload):
    """(instructions per request, lines that say which functions take most of them)."""
    count, short = options.instruction_requests, max(options.instruction_requests // 4, options.connections)
    with Running(server, workload, options, VALGRIND, PATIENCE) as running:
        counters = []
        for requests in (short, short, short + count):  # the first only warms up
            load(options, running, count=requests)
            counters.append(take_counters(running))
        before, after = (max(each, key=each.get) for each in counters[1:])
        spent = sum(counters[2].values()) - sum(counters[1].values())
        return spent / count, busiest_functions(before, after, count)


def take_counters(running):
    """{file: instructions since the counters were last taken} of each process."""
    before = set(running.directory.glob("out.*.*"))
    pids = [str(pid) for pid in running.tree()]
    try:
        done = subprocess.run(["callgrind_control", "--dump", *pids], capture_output=True, text=True,
                              timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Failed(f"{running.title}: callgrind does not answer") from None
    files = set(running.directory.glob("out.*.*")) - before
    if done.returncode != 0 or len(files) != len(pids):
        raise Failed(f"{running.title}: callgrind_control: {done.stdout}{done.stderr}")
    return {file: total_of(file) for file in files}


def total_of(file):
    found = re.search(r"^summary: (\d+)", file.read_text(errors="replace"), re.MULTILINE)
    if not found:
        raise Failed(f"{file.name}: no summary of callgrind")
    return int(found.group(1))


def busiest_functions(before, after, count, most=60):
    """Lines 'instructions per request, function', the most expensive first."""
    base = cost_of_functions(before)
    costs = {name: (cost - base.get(name, 0)) / count for name, cost in cost_of_functions(after).items()}
    ordered = sorted(costs.items(), key=lambda item: -item[1])
    return [f"{cost:8.0f}  {name}" for name, cost in ordered[:most]]


def cost_of_functions(file):
    """{function: its own instructions}"""
    annotated = subprocess.run(["callgrind_annotate", "--auto=no", "--threshold=100", file],
                               capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    costs = {}
    for cost, share, name in re.findall(r"^ *([\d,]+) \( *([\d.]+)%\)  \S*?:(\S.*)$", annotated, re.MULTILINE):
        if float(share) < 50:  # else one that has been running since before the counters were taken
            costs[shortened(name)] = costs.get(shortened(name), 0) + int(cost.replace(",", ""))
    return costs


def shortened(name):
    """Without its object, the number of a recursion, the types of parameters, what a compiler appends."""
    name = re.sub(r" \[[^]]*\]$", "", name)
    name = re.sub(r"'\d+$", "", name).replace("(anonymous namespace)::", "")
    return re.sub(r"\.(lto_priv|constprop|isra|part|cold)\.\d+", "", re.sub(r"\(.*\)", "()", name))
