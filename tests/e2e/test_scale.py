"""No request is lost by scaling up and down."""

import pytest
from mgr_harness import ROOT, Load, no_loss

PRELOAD = pytest.mark.parametrize("preload", ["on", "off"])


def loads(mgr, rate, **options):
    return (Load(mgr, "new", rate, **options),
            Load(mgr, "keep", rate, connections=16, depth=4, **options))


@PRELOAD
def test_scaling_and_restarting_fastapi_loses_nothing_at_200_a_second(make_mgr, preload):
    mgr = make_mgr(workers=2, preload=preload)
    mgr.deploy_text((ROOT / "examples/fastapi/main.py").read_text())
    mgr.start()
    with no_loss(*loads(mgr, 200, path="/hello/{id}", expect_body_prefix='{"greeting":"Hello, r')):
        for wanted in (8, 1, 4):
            mgr.must("scale", wanted)
        mgr.must("restart")


@PRELOAD
def test_scaling_2_8_1_4_loses_nothing_at_1000_a_second(make_mgr, preload):
    mgr = make_mgr("echo", workers=2, preload=preload).start()
    with no_loss(*loads(mgr, 1000)):
        for wanted in (8, 1, 4):
            mgr.must("scale", wanted)
            status = mgr.status()
            assert status["target_workers"] == wanted
            assert [worker["state"] for worker in status["workers"]] == ["ready"] * wanted


def test_scaling_up_and_down_again_and_again_loses_nothing(make_mgr):
    mgr = make_mgr("echo", workers=1).start()
    with no_loss(*loads(mgr, 500)):
        for _ in range(10):
            mgr.must("scale", 3)
            mgr.must("scale", 1)


def test_relative_scaling(make_mgr):
    mgr = make_mgr("echo", workers=2).start()
    mgr.must("scale", "+2")
    assert len(mgr.workers()) == 4
    mgr.must("scale", "-3")
    assert len(mgr.workers()) == 1


def test_every_active_worker_gets_requests_after_scaling(make_mgr):
    mgr = make_mgr("echo", workers=1).start()
    mgr.must("scale", 4)
    pids = {worker["pid"] for worker in mgr.workers()}
    seen = {int(mgr.get("/pid")[1]) for _ in range(100)}
    assert seen == pids
    mgr.must("scale", 2)
    remaining = {worker["pid"] for worker in mgr.workers()}
    assert remaining < pids
    assert {int(mgr.get("/pid")[1]) for _ in range(60)} == remaining


def test_a_scale_holds_across_a_reload(make_mgr):
    mgr = make_mgr("echo", workers=1, min_ready="100ms").start()
    mgr.must("scale", 3)
    mgr.must("reload")
    assert len(mgr.workers()) == 3
