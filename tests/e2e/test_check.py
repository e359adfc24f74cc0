"""`mgr check`: an answer about the application, and nothing done to a service."""

import signal
import subprocess
import time

import pytest
from mgr_harness import MGR, wait_for

HANGING_IMPORT = """
import pathlib, time
pathlib.Path("here").touch()
time.sleep(60)
"""
HANGING_LIFESPAN = """
import asyncio, pathlib

async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    pathlib.Path("here").touch()
    await asyncio.sleep(60)
"""


def begin_check(mgr, text):
    """A check that has got to where `text` hangs."""
    mgr.deploy_text(text)
    here = mgr.directory / "here"
    check = subprocess.Popen([MGR, "check", "main:app", "--python", "/usr/bin/python3"],
                             cwd=mgr.directory, env=mgr.environment, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(here.exists, "the application hangs")
    return check


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("text", [HANGING_IMPORT, HANGING_LIFESPAN], ids=["import", "lifespan"])
def test_a_check_that_is_interrupted_has_failed(make_mgr, text, number):
    check = begin_check(make_mgr("echo"), text)
    for ignored in ("HUP", "USR1", "USR2", "TTIN", "TTOU", "WINCH"):
        check.send_signal(getattr(signal, "SIG" + ignored))
    check.send_signal(number)
    out, err = check.communicate(timeout=20)
    assert check.returncode == 1 and out == "", (check.returncode, out, err)
    assert "interrupted before the application had loaded and started" in err.splitlines()[-1]
    assert "reload" not in err and "worker more" not in err and "upgrade" not in err, err


def test_a_check_warns_of_what_this_machine_lacks(make_mgr):
    mgr = make_mgr("echo")
    done = subprocess.run([MGR, "check", "main:app", "--python", "/usr/bin/python3", "--pidfile",
                           "no/where.pid"],
                          cwd=mgr.directory, env=mgr.environment, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(
        "pidfile: no/where.pid: there is no directory no yet, and mgr run needs it\n")


def test_a_check_runs_no_command_of_hooks(make_mgr):
    mgr = make_mgr("echo")
    commands = [flag for event in ("ready", "stopped") for flag in ("--hooks", f"{event}=touch told")]
    done = subprocess.run([MGR, "check", "main:app", "--python", "/usr/bin/python3", *commands],
                          cwd=mgr.directory, env=mgr.environment, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    assert not (mgr.directory / "told").exists()


def test_a_check_does_not_wait_for_threads_that_the_application_leaves_running(make_mgr):
    mgr = make_mgr("echo")
    mgr.deploy_text("import threading, time\n"
                    "threading.Thread(target=time.sleep, args=(60,), name='reporter').start()\n"
                    "def app(environ, start_response):\n"
                    "    return []\n")
    began = time.monotonic()
    done = subprocess.run([MGR, "check", "main:app", "--python", "/usr/bin/python3"],
                          cwd=mgr.directory, env=mgr.environment, text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "main:app: loads and starts\n"), done.stderr
    assert time.monotonic() - began < 15  # graceful_timeout is 30 s
    assert "ended without waiting for what still runs: reporter\n" in done.stderr
