"""No request is lost by reloads, whatever the application and however it is loaded."""

import shutil
import subprocess

import pytest
from mgr_harness import MGR, ROOT, Load, no_loss, wait_for

RELEASE = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"release NUMBER"})
"""
FASTAPI = (ROOT / "examples/fastapi/main.py").read_text()
PRELOAD = pytest.mark.parametrize("preload", ["on", "off"])


def loads(mgr, rate, **options):
    return (Load(mgr, "new", rate, **options),
            Load(mgr, "keep", rate, connections=16, depth=4, **options))


def reload_20_times(mgr):
    for _ in range(20):
        mgr.must("reload")
    status = mgr.status()
    assert status["reloads"] == 20 and status["last_reload"]["ok"] is True
    assert status["state"] == "running"
    generation = status["generation"]
    assert [worker["generation"] for worker in status["workers"]] == [generation] * 2
    assert [worker["state"] for worker in status["workers"]] == ["ready"] * 2
    assert [worker["restarts"] for worker in status["workers"]] == [0, 0]


@PRELOAD
def test_20_reloads_of_a_trivial_application_lose_nothing_at_1000_a_second(make_mgr, preload):
    mgr = make_mgr("echo", workers=2, preload=preload, min_ready="200ms").start()
    with no_loss(*loads(mgr, 1000, expect_body_prefix="echo /echo/r")):
        reload_20_times(mgr)


@PRELOAD
def test_20_reloads_of_fastapi_lose_nothing_at_200_a_second(make_mgr, preload):
    mgr = make_mgr(workers=2, preload=preload, min_ready="200ms")
    mgr.deploy_text(FASTAPI)
    mgr.start()
    with no_loss(*loads(mgr, 200, path="/hello/{id}", expect_body_prefix='{"greeting":"Hello, r')):
        reload_20_times(mgr)


@PRELOAD
def test_a_reload_serves_the_new_code_and_only_the_new_code(make_mgr, preload):
    mgr = make_mgr("echo", workers=4, preload=preload, min_ready="100ms").start()
    text = (mgr.directory / "main.py").read_text()
    mgr.deploy_text(text.replace('b"echo "', 'b"new "'))
    assert mgr.get("/x") == (200, b"echo /x")
    mgr.must("reload")
    assert {mgr.get("/x") for _ in range(40)} == {(200, b"new /x")}


@PRELOAD
def test_a_reload_with_the_default_settings_loses_nothing(make_mgr, preload):
    mgr = make_mgr("echo", workers=4, preload=preload).start()
    with no_loss(*loads(mgr, 500)):
        mgr.must("reload")
        mgr.must("reload")


@PRELOAD
def test_reloads_and_scaling_under_full_load_lose_nothing(make_mgr, preload):
    """Closed loop: every processor is busy, every accept queue is in use."""
    mgr = make_mgr("echo", workers=2, preload=preload, min_ready="200ms").start()
    with no_loss(Load(mgr, "new", 0, connections=64), Load(mgr, "keep", 0, connections=32, depth=4)):
        for wanted in (6, 1, 3):
            mgr.must("reload")
            mgr.must("scale", wanted)


def test_requests_in_flight_are_finished_by_the_old_generation(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="100ms").start()
    with no_loss(Load(mgr, "new", 50, path="/slow?1.5", verify=False, expect_body_prefix="slow")):
        for _ in range(3):
            mgr.must("reload")
            leaving = mgr.status_now()["leaving"]
            assert sum(worker["in_flight"] for worker in leaving) > 0
    wait_for(lambda: not mgr.status()["leaving"], "the old workers have left")


def test_large_posts_and_streams_survive_reloads(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="100ms").start()
    posts = Load(mgr, "keep", 50, path="/post", verify=False, body_size=300000, connections=8,
                 expect_body_prefix="got 300000")
    streams = Load(mgr, "new", 50, path="/stream?20", verify=False, expect_body_prefix="part 0\npart 1\n")
    with no_loss(posts, streams):
        for _ in range(5):
            mgr.must("reload")


def test_a_deploy_that_changes_a_symbolic_link_is_followed(make_mgr, tmp_path):
    current = tmp_path / "current"
    for number in (1, 2, 3):
        release = tmp_path / f"release{number}"
        release.mkdir()
        (release / "main.py").write_text(RELEASE.replace("NUMBER", str(number)))
        (release / "mgr.yaml").write_text(f"app: main:app\nworkers: {number}\nmin_ready: 50ms\n")
    current.symlink_to("release1")
    mgr = make_mgr("echo", target=None)
    mgr.directory = current
    mgr.environment["PWD"] = str(current)
    mgr.start()
    assert mgr.get("/")[1] == b"release 1"
    for number, change in ((2, "reload"), (3, "upgrade")):
        current.unlink()
        current.symlink_to(f"release{number}")
        mgr.must(change)
        assert mgr.get("/")[1] == b"release %d" % number
        assert mgr.status()["target_workers"] == number


def test_a_directory_that_was_removed_is_named(make_mgr, tmp_path):
    mgr = make_mgr("echo", workers=1, min_ready="50ms").start()
    shutil.rmtree(mgr.directory)
    done = subprocess.run([MGR, "reload", "--control", str(mgr.control)], env=mgr.environment,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "chdir: '.' leads to a directory that has been removed" in done.stderr, done
    mgr.directory = tmp_path
    assert mgr.get("/x")[0] == 200
