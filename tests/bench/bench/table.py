"""The results as tables in Markdown, one for each workload."""

import statistics


def spread(values):
    """median (min–max)"""
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})" if values else ""


def ratio(values, reference):
    if not values or not reference:
        return ""
    return f"{statistics.median(values) / statistics.median(reference):.2f}"


def median(values, scale=1.0):
    return f"{statistics.median(values) / scale:.0f}" if values else ""


def latency(result, key):
    return f"{result.latency[key]:.2f}" if result.latency else ""


# Heading, and what of (result, results of mgr) stands below it. Columns in which nothing was measured
# are left out.
COLUMNS = [
    ("CPU µs per request, median (min–max)", lambda own, mgr: spread(own.cpu_us)),
    ("× mgr", lambda own, mgr: ratio(own.cpu_us, mgr.cpu_us)),
    ("user instructions", lambda own, mgr: "" if own.instructions is None else f"{own.instructions:.0f}"),
    ("RSS MiB", lambda own, mgr: median(own.rss, 2**20)),
    ("requests/s", lambda own, mgr: median(own.rate)),
    ("at requests/s", lambda own, mgr: latency(own, "rate").partition(".")[0]),
    ("p50 ms", lambda own, mgr: latency(own, "p50")),
    ("p99 ms", lambda own, mgr: latency(own, "p99")),
    ("p99.9 ms", lambda own, mgr: latency(own, "p999")),
    ("connections/s", lambda own, mgr: median(own.connection_rate)),
    ("CPU µs per connection", lambda own, mgr: spread(own.connection_cpu_us)),
]


def title_of(server, workload):
    if workload.key in server.closes:
        return f"{server.title} (closes each connection)"
    if server.connections:
        return f"{server.title} (keeps {server.connections})"
    return server.title


def table(workload, results, reference):
    """`results`: {server: Result} of the workload; `reference`: mgr's Result, or that of nobody."""
    cells = [[text(result, reference) for _, text in COLUMNS] for result in results.values()]
    shown = [index for index in range(len(COLUMNS)) if any(row[index] for row in cells)]
    head = [workload.title, *(COLUMNS[index][0] for index in shown)]
    rows = [[title_of(server, workload), *(row[index] for index in shown)]
            for server, row in zip(results, cells)]
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]
    lines = [head, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])], *rows]
    return "\n".join("| " + line[0].ljust(widths[0]) + " | " +
                     " | ".join(cell.rjust(width) for cell, width in zip(line[1:], widths[1:])) + " |"
                     for line in lines)
