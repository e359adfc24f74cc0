"""The loops of the application's choice, under load and from outside: they lose as little as ours."""

import pytest

from mgr_harness import Load, no_loss


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_reload_scale_and_restart_lose_no_request(make_mgr, loop):
    mgr = make_mgr("echo", workers=2, loop=loop, min_ready="200ms").start()
    with no_loss(Load(mgr, "new", 200), Load(mgr, "keep", 200, connections=8, depth=2)):
        mgr.must("reload")
        mgr.must("scale", 3)
        mgr.must("restart")
        mgr.must("scale", 1)
    assert [each["generation"] for each in mgr.workers()] == [2]
    assert "[error]" not in mgr.log
