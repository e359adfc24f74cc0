"""The documented commands of a newcomer: examples/quickstart, and a first session."""

import os
import re
import signal
import subprocess
import time
import urllib.request

import pytest
from mgr_harness import MARK, MGR, ROOT, free_port, processes_with, wait_for


@pytest.fixture
def quickstart(tmp_path):
    """The script with a port and a build directory of its own; it may take minutes to build."""
    address = f"127.0.0.1:{free_port()}"
    mark = f"quickstart-{os.getpid()}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MGR_")}
    environment |= {"MGR_BIND": address, "QUICKSTART_BUILD_DIR": os.environ["QUICKSTART_BUILD_DIR"],
                    "XDG_RUNTIME_DIR": str(tmp_path), MARK: mark}
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen([ROOT / "examples/quickstart"], stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, env=environment, cwd=tmp_path, start_new_session=True)
    yield address, process, tmp_path / "log", environment
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    for pid in processes_with(mark):
        os.kill(pid, signal.SIGKILL)


def test_quickstart_builds_serves_and_prints_three_things_to_try(quickstart):
    address, process, log, environment = quickstart

    def fetch(path):
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as response:
            return response.read()

    def serves():
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            return fetch("/hello/world")
        except OSError:
            return None

    assert wait_for(serves, "the example is served", 800, period=0.5) == b'{"greeting":"Hello, world!"}'
    text = log.read_text()
    assert f"http://{address}" in text
    tries = re.findall(r"^  (\S.*)$", text, re.MULTILINE)
    assert len(tries) == 3 and tries[0].startswith("curl ")
    for command in tries:
        done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True,
                              timeout=60)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    mgr = tries[1].split()[0]
    shown = subprocess.run([mgr, "status", "--json"], env=environment, capture_output=True, text=True)
    assert shown.stdout.count('"slot"') >= len(os.sched_getaffinity(0))

    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=15)
    assert time.monotonic() - began < 5
    wait_for(lambda: not processes_with(environment[MARK]), "nothing is left")


def test_a_first_session_in_the_example_directory(tmp_path):
    """run, status, scale, reload, stop without any option but the port."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MGR_")}
    environment["XDG_RUNTIME_DIR"] = str(tmp_path)
    address = f"127.0.0.1:{free_port()}"

    def command(*arguments):
        return subprocess.run([MGR, *arguments], env=environment, cwd=tmp_path, capture_output=True,
                              text=True, timeout=60)

    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen([MGR, "run", "--bind", address], cwd=ROOT / "examples/trivial",
                                   env=environment | {"MGR_APP": "main:app"}, stdout=log, stderr=log)
    try:
        wait_for(lambda: command("ready").returncode == 0, "ready", 30, period=0.1)
        with urllib.request.urlopen(f"http://{address}/you", timeout=5) as response:
            assert response.read() == b"hello /you"
        for arguments in (["status"], ["scale", "3"], ["reload"], ["restart"], ["config"], ["version"]):
            done = command(*arguments)
            assert done.returncode == 0, (arguments, done.stderr)
        assert command("stop").returncode == 0
        assert process.wait(timeout=10) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
