"""`mgr restart` replaces workers by new ones of the same generation and loses nothing."""

from mgr_harness import Load, no_loss


def pids(mgr):
    return {worker["slot"]: worker["pid"] for worker in mgr.workers()}


def test_restarting_every_worker_loses_nothing(make_mgr):
    mgr = make_mgr("echo", workers=3).start()
    generation = mgr.status()["generation"]
    with no_loss(Load(mgr, "new", 1000), Load(mgr, "keep", 1000, connections=16, depth=4)):
        for _ in range(5):
            before = pids(mgr)
            mgr.must("restart")
            after = pids(mgr)
            assert after.keys() == before.keys()
            assert not set(after.values()) & set(before.values())
    assert mgr.status()["generation"] == generation


def test_restarting_one_slot_leaves_the_others(make_mgr):
    mgr = make_mgr("echo", workers=3).start()
    before = pids(mgr)
    mgr.must("restart", 1)
    after = pids(mgr)
    assert after[1] != before[1]
    assert (after[0], after[2]) == (before[0], before[2])


def test_restarting_a_slot_that_does_not_exist_is_refused_and_names_it(make_mgr):
    mgr = make_mgr("echo", workers=2).start()
    before = pids(mgr)
    done = mgr.run("restart", 7)
    assert done.returncode in (1, 2) and "7" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert pids(mgr) == before
