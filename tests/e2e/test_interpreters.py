"""Which interpreters and applications are taken, from outside: what is refused is one clear line and
exit status 4, and what is found is served."""

import os
import re
import subprocess

import pytest

from mgr_harness import wait_for

HELLO = '''
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})
'''
RECORD = re.compile(r"^\d{4}-\d\d-\d\d .*\[(?P<level>\w+)\] (?P<message>.*)$")


def interpreter(directory, disguise):
    """A Python that says of itself what it is not."""
    path = directory / "python-in-disguise"
    path.write_text(f"#!/usr/bin/python3\nimport sys\nsys.executable = {str(path)!r}\n{disguise}\n"
                    "exec(sys.argv[2])\n")
    path.chmod(0o755)
    return path


def refused_by(mgr, status=4):
    """Its one line of reason, by `mgr run` and by `mgr check`, which say the same; a traceback, where
    there is one, is a record beside it."""
    assert mgr.launch().wait_exit(60) == status, mgr.log
    last = RECORD.match(mgr.log.splitlines()[-1])
    assert last and last["level"] == "error" and mgr.log.count("cannot start: ") == 1, mgr.log
    settings = dict(mgr.settings)
    flags = [text for name, value in settings.items() if name != "control"
             for text in (f"--{name.replace('_', '-')}", str(value))]
    checked = subprocess.run([os.environ["MGR_BIN"], "check", mgr.target, *flags], cwd=mgr.directory,
                             env=mgr.environment, capture_output=True, text=True, timeout=60)
    assert checked.returncode == status, (checked.stdout, checked.stderr)
    return last["message"], checked.stderr


MUSL = ("sys.modules['_mgr_core'] = None\nimport sysconfig\n"
        "sysconfig.get_config_var = lambda name: 'cpython-311-x86_64-linux-musl'")


@pytest.mark.parametrize("disguise, reason", [
    ("sys.version_info = (3, 10, 4, 'final', 0)", "is Python 3.10.4; mgr needs CPython 3.11 or newer"),
    ("sys.version_info = (2, 7, 18, 'final', 0)", "is Python 2.7.18; mgr needs CPython 3.11 or newer"),
    ("sys.implementation.name = 'pypy'\nsys.pypy_version_info = (7, 3, 11, 'final', 0)",
     "is pypy; mgr needs CPython 3.11 or newer"),
    ("sys.implementation.name = 'graalpy'", "is graalpy; mgr needs CPython 3.11 or newer"),
    ("sys.abiflags = 't'", "is a free-threaded build of Python 3.11.2, which mgr does not support"),
    (MUSL, "is linked with musl; mgr needs a Python linked with glibc"),
    ("sys.modules['_mgr_core'] = None", "cannot load mgr's extension: "),
], ids=["3.10", "2.7", "pypy", "graalpy", "free-threaded", "musl", "another ABI"])
def test_an_interpreter_that_is_not_fit_is_refused_by_name(make_mgr, tmp_path, disguise, reason):
    python = interpreter(tmp_path, disguise)
    logged, printed = refused_by(make_mgr(workers=1, python=python))
    for text in (logged, printed):
        assert f"{python} {reason}" in text, text


@pytest.mark.parametrize("script, how", [("exit 0", "exit status 0"), ("echo nonsense; exit 3", "exit status 3"),
                                         ("kill -9 $$", "killed by signal 9")])
def test_what_is_no_python_at_all_is_refused_by_name(make_mgr, tmp_path, script, how):
    program = tmp_path / "no-python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    logged, printed = refused_by(make_mgr(workers=1, python=program))
    for text in (logged, printed):
        assert how in text and str(program) in text, text


def test_an_interpreter_that_is_not_there_is_refused_by_name(make_mgr):
    for python in ("/nowhere/python3", "no-such-python"):
        logged, printed = refused_by(make_mgr(workers=1, python=python))
        assert python in logged and python in printed


@pytest.mark.parametrize("preload", ["on", "off"])
def test_uvloop_that_is_not_installed_is_refused(make_mgr, tmp_path, preload):
    python = interpreter(tmp_path, "sys.modules['uvloop'] = None")
    logged, printed = refused_by(make_mgr(workers=1, python=python, loop="uvloop", preload=preload))
    for text in (logged, printed):
        assert "loop: uvloop: cannot import it: ModuleNotFoundError" in text and str(python) in text
    mgr = make_mgr(workers=1, python=python, loop="asyncio").start()
    assert mgr.get("/echo/1") == (200, b"echo /echo/1")


@pytest.mark.parametrize("target, text, reason", [
    ("nowhere:app", HELLO, "cannot import 'nowhere': ModuleNotFoundError: No module named 'nowhere'"),
    ("main:ap", HELLO, "module 'main' has no attribute 'ap'; near: app"),
    ("main", "x = 1", "module 'main' has neither 'app' nor 'application'"),
    ("main:app.inner", HELLO, "'app' of module 'main' has no attribute 'inner'"),
    ("main:app", "app = 42", "main:app is not callable: it is of type builtins.int"),
    ("main:make()", "make = 42", "main:make(): the factory is of type builtins.int"),
    ("main:make()", "def make():\n  return 42", "main:make() is not callable: it is of type builtins.int"),
    ("main:app", "import nothing_here\n" + HELLO, "No module named 'nothing_here'"),
    ("main:app", "def app(:\n", "cannot import 'main': SyntaxError: invalid syntax"),
])
@pytest.mark.parametrize("preload", ["on", "off"])
def test_what_is_no_application_is_refused_in_one_line(make_mgr, preload, target, text, reason):
    mgr = make_mgr(workers=1, target=target, preload=preload)
    mgr.deploy_text(text)
    logged, printed = refused_by(mgr)
    for line in (logged, printed):
        assert reason in line and "/usr/bin/python3" in line, line


# ---- what is found

LAYOUTS = {
    "main": {"main.py": HELLO},
    "main:app": {"main.py": HELLO},
    "alone": {"alone.py": HELLO.replace("def app", "def application")},
    "main:Outer.inner.app": {"main.py": "class Outer:\n  class inner:\n    from other import app\n"
                                        "    app = staticmethod(app)\n", "other.py": HELLO},
    "main:make()": {"main.py": f"def make():\n  from other import app\n  return app\n", "other.py": HELLO},
    "main:Factory.make()": {"main.py": "from other import app\nclass Factory:\n  @staticmethod\n"
                                       "  def make():\n    return app\n", "other.py": HELLO},
    "shop": {"shop/__init__.py": "from .web import app\n", "shop/web.py": HELLO},
    "shop.web.asgi:app": {"shop/__init__.py": "", "shop/web/__init__.py": "",
                          "shop/web/asgi.py": "from ..other import app\n", "shop/other.py": HELLO},
    "spread.web:app": {"spread/web.py": HELLO},  # a namespace package
}


@pytest.mark.parametrize("target", LAYOUTS)
def test_an_application_is_found_by_its_name(make_mgr, target):
    mgr = make_mgr(workers=1, target=target)
    for name, text in LAYOUTS[target].items():
        path = mgr.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    mgr.start()
    assert mgr.get("/") == (200, b"hello")


TELLS = '''
import os, sys, helper
found = (helper.FROM, os.getcwd(), [os.environ.get(name) for name in ("PLAIN", "FILE", "BOTH", "KEPT")])
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": repr(found).encode()})
'''


@pytest.mark.parametrize("preload", ["on", "off"])
def test_directory_paths_and_environment_are_the_settings_ones_at_each_load(make_mgr, tmp_path, preload):
    place = tmp_path / "place"
    for name, text in {"main.py": TELLS, "lib/helper.py": "FROM = 'lib'\n", "late/helper.py": "FROM = 'late'\n",
                       "my.env": "# a comment\nexport FILE='of the file'\nBOTH=file\n"}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    mgr = make_mgr(workers=1, preload=preload, chdir=place, python_path=["lib", "late"], env_file="my.env",
                   min_ready="50ms", env={"KEPT": "inherited", "FILE": "inherited"})
    mgr.settings["env"] = ["PLAIN=of the setting", "BOTH=setting"]
    mgr.start()
    expected = ("lib", str(place), ["of the setting", "of the file", "setting", "inherited"])
    assert mgr.get("/") == (200, repr(expected).encode())
    (place / "my.env").write_text("FILE='another'\n")
    (place / "lib/helper.py").unlink()
    mgr.must("reload")
    expected = ("late", str(place), ["of the setting", "another", "setting", "inherited"])
    wait_for(lambda: mgr.get("/") == (200, repr(expected).encode()), "the new values")
