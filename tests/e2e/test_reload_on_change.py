"""reload_on_change: the code that is on disk serves, a moment after it was written."""

import os
import time
from pathlib import Path

from mgr_harness import wait_for

ANSWERS = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": {body}}})
"""


def answers(body):
    return ANSWERS.format(body=body)


def make(make_mgr, text, **settings):
    mgr = make_mgr(reload_on_change="on", lifespan="off", **settings)
    mgr.deploy_text(text)
    return mgr


def serves(mgr, body):
    wait_for(lambda: mgr.get("/")[1] == body, f"{body} is served")


def test_changes_are_served_and_broken_code_waits_for_the_next(make_mgr):
    mgr = make(make_mgr, answers("b'one'")).start()
    assert len(mgr.workers()) == 1  # although `workers` is auto
    serves(mgr, b"one")
    began = time.monotonic()
    mgr.deploy_text(answers("b'two'"))
    serves(mgr, b"two")
    assert time.monotonic() - began < 3
    mgr.deploy_text("import nothing_of_this_name\n")
    wait_for(lambda: "ModuleNotFoundError: No module named 'nothing_of_this_name'" in mgr.log,
             "the traceback")
    wait_for(lambda: mgr.status()["last_reload"]["ok"] is False, "taken back")
    assert mgr.get("/")[1] == b"two"
    mgr.deploy_text(answers("b'three'"))
    serves(mgr, b"three")
    assert mgr.status()["reloads"] == 2


def test_other_modules_count_and_what_python_writes_does_not(make_mgr):
    mgr = make(make_mgr, "import inner.part\n" + answers("inner.part.BODY"))
    mgr.environment.pop("PYTHONDONTWRITEBYTECODE")
    inner = mgr.directory / "inner"
    inner.mkdir()
    (inner / "part.py").write_text("BODY = b'one'\n")
    mgr.start()
    serves(mgr, b"one")
    assert (inner / "__pycache__").exists()
    (mgr.directory / "main.py~").write_text("nothing\n")
    (inner / ".part.py.swp").write_text("nothing\n")
    # Of another size: the cached bytecode goes by size and second.
    (inner / "part.py").write_text("BODY = b'two, longer'\n")
    serves(mgr, b"two, longer")
    wait_for(lambda: mgr.status()["reloads"] == 1, "one reload")
    assert mgr.log.count("changed: ") == 1


def test_a_first_start_with_broken_code_waits_for_its_mending(make_mgr):
    mgr = make(make_mgr, "def app(:\n").launch()
    wait_for(lambda: "the next change is waited for" in mgr.log, "the error")
    assert "SyntaxError" in mgr.log
    assert mgr.process.poll() is None
    unready = mgr.run("ready")
    assert unready.returncode == 1 and "cannot start: import" in unready.stderr
    mgr.deploy_text("import nothing_of_this_name\n")
    wait_for(lambda: mgr.log.count("the next change is waited for") == 2, "the next error")
    mgr.deploy_text(answers("b'mended'"))
    mgr.wait_ready()
    assert mgr.get("/")[1] == b"mended"
    mgr.must("stop")
    assert mgr.wait_exit() == 0


def test_a_lifespan_that_fails_at_first_is_waited_for(make_mgr):
    mgr = make_mgr(reload_on_change="on")
    mgr.deploy_text("async def app(scope, receive, send):\n"
                    "    assert scope['type'] == 'lifespan'\n    await receive()\n"
                    "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n")
    mgr.launch()
    wait_for(lambda: "the next change is waited for" in mgr.log, "the error")
    mgr.deploy("echo")
    mgr.wait_ready()
    assert mgr.get("/x")[0] == 200


def test_a_change_during_a_reload_is_not_forgotten(make_mgr):
    mgr = make(make_mgr, answers("b'one'"), min_ready="700ms").start()
    mgr.deploy_text(answers("b'two'"))
    wait_for(lambda: mgr.status_now()["state"] == "reloading", "reloading", period=0.005)
    mgr.deploy_text(answers("b'three'"))
    serves(mgr, b"three")


def test_paths_configuration_and_workers_may_be_given(make_mgr, tmp_path):
    file = tmp_path / "mgr.yaml"
    file.write_text("workers: 2\nreload_paths: [elsewhere, data.json]\nkeep_alive: 5s\n")
    mgr = make(make_mgr, answers("b'one'"), config=file)
    (mgr.directory / "elsewhere").mkdir()
    (mgr.directory / "data.json").write_text("{}")
    mgr.start()
    assert len(mgr.workers()) == 2
    mgr.deploy_text(answers("b'not watched'"))
    (mgr.directory / "data.json").write_text("[]")
    serves(mgr, b"not watched")
    assert mgr.log.count("changed: ") == 1
    file.write_text("workers: 3\nreload_paths: [elsewhere]\nkeep_alive: 6s\n")
    wait_for(lambda: len(mgr.workers()) == 3, "the new number")
    mgr.deploy_text(answers("b'two'"))
    (mgr.directory / "data.json").write_text("{}")  # no longer
    (mgr.directory / "elsewhere" / "x.py").write_text("")
    serves(mgr, b"two")
    assert mgr.log.count("changed: ") == 3 and "data.json" not in mgr.log.split("changed: ")[3]


def test_off_nothing_is_watched(make_mgr):
    mgr = make_mgr("echo", workers=1).start()
    links = [os.readlink(entry) for entry in Path(f"/proc/{mgr.pid}/fd").iterdir()]
    assert not any("inotify" in link for link in links)
