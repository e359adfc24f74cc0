"""Workers that have used up what they may are replaced without a lost request."""

import re

import pytest
from mgr_harness import Load, no_loss, wait_for

GROWING = '''
kept = []


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/grow":
        kept.append(b"x" * 50_000_000)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"kept %d" % len(kept)})
'''


def pids(mgr):
    return {worker["slot"]: worker["pid"] for worker in mgr.workers()}


def recycled(mgr, reason):
    done = mgr.must("metrics")
    return int(float(re.search(rf'mgr_worker_restarts_total{{reason="{reason}"}} (\S+)', done)[1]))


@pytest.mark.parametrize("preload", ["on", "off"])
def test_max_requests_replaces_workers_again_and_again_and_loses_nothing(make_mgr, preload):
    mgr = make_mgr("echo", workers=2, preload=preload, max_requests=300, max_requests_jitter=100).start()
    before = pids(mgr)
    with no_loss(Load(mgr, "new", 500), Load(mgr, "keep", 500, connections=16, depth=4)):
        wait_for(lambda: recycled(mgr, "max_requests") >= 6, "six workers were replaced", 60)
    status = mgr.status()
    assert not set(pids(mgr).values()) & set(before.values())
    assert [worker["restarts"] for worker in status["workers"]] == [0, 0], "no crash"
    assert all(worker["last_exit"].startswith("recycled, max_requests: ") for worker in status["workers"])
    limits = [int(limit) for limit in re.findall(r"max_requests: \d+ of (\d+)", mgr.log)]
    assert len(limits) >= 6 and all(300 <= limit <= 400 for limit in limits)
    assert len(set(limits)) > 1, "each worker has a limit of its own"
    assert status["state"] == "running" and status["generation"] == 1


def test_max_requests_is_seen_at_the_request_that_reaches_it(make_mgr):
    mgr = make_mgr("echo", workers=1, max_requests=5).start()
    before = pids(mgr)
    for _ in range(5):
        mgr.get()
    wait_for(lambda: pids(mgr) != before, "it was replaced")
    assert "max_requests: 5 of 5" in mgr.log


def test_max_lifetime_replaces_idle_workers_too(make_mgr):
    mgr = make_mgr("echo", workers=2, max_lifetime="1500ms").start()
    before = pids(mgr)
    with no_loss(Load(mgr, "new", 200)):
        wait_for(lambda: recycled(mgr, "max_lifetime") >= 4, "four were replaced", 30)
    assert not set(pids(mgr).values()) & set(before.values())


def test_max_memory_replaces_the_worker_that_has_grown_and_no_other(make_mgr):
    mgr = make_mgr(workers=2, max_memory="100m")
    mgr.deploy_text(GROWING)
    mgr.start()
    before = pids(mgr)
    with mgr.connect() as connection:
        for turn in range(3):
            connection.sendall(b"GET /grow HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_for(lambda: b"kept" in connection.recv(65536), "grown")
    wait_for(lambda: recycled(mgr, "max_memory") == 1, "the large one was replaced")
    after = pids(mgr)
    replaced = [slot for slot in before if before[slot] != after[slot]]
    assert len(replaced) == 1
    worker = next(worker for worker in mgr.workers() if worker["slot"] == replaced[0])
    assert worker["last_exit"].startswith("recycled, max_memory: ") and worker["rss"] < 100_000_000
    assert "has reached max_memory" in mgr.log and "another takes its place" in mgr.log


def test_limits_of_recycling_are_applied_by_a_reload(make_mgr, tmp_path):
    file = tmp_path / "limits.yaml"
    file.write_text("workers: 1\n")
    mgr = make_mgr("echo", config=file, min_ready="100ms").start()
    first = mgr.workers()[0]["pid"]
    file.write_text("workers: 1\nmax_lifetime: 1s\n")
    mgr.must("reload")
    second = mgr.workers()[0]["pid"]
    assert second != first
    wait_for(lambda: mgr.workers()[0]["pid"] not in (first, second), "recycled by the new limit")


@pytest.mark.parametrize("name, value, allowed", [
    ("max_requests", "-1", "0 to 1000000000"), ("max_requests_jitter", "x", "0 to 1000000000"),
    ("max_lifetime", "9000h", "0s to 8760h"), ("max_memory", "much", "0 to 1048576g")])
def test_a_limit_out_of_range_is_named(make_mgr, name, value, allowed):
    mgr = make_mgr("echo", workers=1, **{name: value})
    mgr.launch()
    assert mgr.wait_exit() == 78
    assert f"--{name.replace('_', '-')}: '{value}'" in mgr.log and allowed in mgr.log, mgr.log
