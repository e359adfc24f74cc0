"""Loading an application in a mold or a worker: what is found, what is refused, where it runs."""

import os
import signal
import subprocess

import pytest

HELLO = '''
import os
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
'''


# ---- loading

@pytest.mark.parametrize("text, name, stage, error, in_traceback", [
    ("def broken(:\n", "main:app", "import", "SyntaxError", "main.py"),
    ("import nowhere_to_be_found\n", "main:app", "import", "ModuleNotFoundError", "main.py"),
    ("raise RuntimeError('at import')\n", "main:app", "import", "RuntimeError: at import", "main.py"),
    ("import sys; sys.exit(5)\n", "main:app", "import", "SystemExit: 5", "main.py"),
    ("", "missing:app", "import", "No module named 'missing'", "missing"),
    ("application_x = appl = 1\n", "main:app", "attribute", "no attribute 'app'; near: appl", ""),
    ("x = 1\n", "main", "attribute", "neither 'app' nor 'application'", ""),
    ("class Outer: pass\n", "main:Outer.inner", "attribute", "no attribute 'inner'", ""),
    ("app = 42\n", "main:app", "application", "not callable: it is of type builtins.int", ""),
    ("def make(): raise ValueError('in the factory')\n", "main:make()", "application",
     "ValueError: in the factory", "main.py"),
    ("def make(): return None\n", "main:make()", "application", "not callable", ""),
    ("def app(*arguments): pass\n", "main:app", "application",
     "main:app takes the arguments (*arguments); set `interface` to say how it is called", ""),
    ("def app(environ, start_response, extra=1): return []\n", "main:app", "application",
     "set `interface` to say how it is called: asgi (scope, receive, send)", ""),
    ("def make(config=None): return None\n", "main:make", "application",
     "for a factory write main:make(); set `interface`", ""),
    ("app = dict.fromkeys\n", "main:app", "application", "set `interface` to say how it is called", ""),
])
@pytest.mark.parametrize("load", [True, False], ids=["preload", "worker"])
def test_an_application_that_cannot_be_loaded_is_reported(app, mold, load, text, name, stage, error,
                                                          in_traceback):
    app(text)
    running = mold(name, load=load, python="/usr/bin/python3")
    if load:
        failure = running.load_failed()
        assert running.wait() == 4
    else:
        running.loaded()
        worker = running.fork()
        failure = worker.receive("boot_failed")
        assert worker.wait() == 4
    assert (failure["stage"], failure["exit_status"]) == (stage, 4)
    assert error in failure["error"] and "\n" not in failure["error"]
    assert "/usr/bin/python3" in failure["error"]
    assert in_traceback in failure.get("traceback", "")
    assert "mgr_host" not in failure.get("traceback", "")
    assert bool(in_traceback) == ("traceback" in failure)


def test_what_an_async_factory_returns_brings_no_warning_of_its_own(app, mold):
    app("async def make(): pass\n")
    running = mold("main:make()")
    assert "main:make() is not callable: it is of type builtins.coroutine" in running.load_failed()["error"]
    assert running.wait() == 4
    assert running.output() == ""


@pytest.mark.parametrize("text, name, interface", [
    ("async def app(scope, receive, send): pass\n", "main", "asgi"),
    ("async def application(scope, receive, send): pass\n", "main", "asgi"),
    ("class Outer:\n  class inner:\n    @staticmethod\n    async def app(scope, receive, send): pass\n",
     "main:Outer.inner.app", "asgi"),
    ("def make():\n  async def app(scope, receive, send): pass\n  return app\n", "main:make()", "asgi"),
    ("class A:\n  async def __call__(self, scope, receive, send): pass\napp = A()\n", "main:app", "asgi"),
    ("def app(scope, receive, send): pass\n", "main:app", "asgi"),
    ("import functools\nasync def f(x, scope, receive, send): pass\napp = functools.partial(f, 1)\n",
     "main:app", "asgi"),
    ("class app:\n  def __init__(self, scope): pass\n  async def __call__(self, receive, send): pass\n",
     "main:app", "asgi2"),
    ("def app(scope): pass\n", "main:app", "asgi2"),
    ("class app:\n  def __init__(self, scope, receive, send): pass\n  def __await__(self): yield\n",
     "main:app", "asgi"),
    ("def app(environ, start_response): return []\n", "main", "wsgi"),
    ("class Flask:\n  def __call__(self, environ, start_response): return []\napp = Flask()\n",
     "main:app", "wsgi"),
    ("class app:\n  def __init__(self, environ, start_response): pass\n  def __iter__(self): yield b''\n",
     "main:app", "wsgi"),
    ("class A:\n  def app(self, environ, start_response): return []\na = A()\n", "main:a.app", "wsgi"),
    ("import functools\ndef f(x, environ, start_response): return []\napp = functools.partial(f, 1)\n",
     "main:app", "wsgi"),
    ("def make():\n  def app(environ, start_response): return []\n  return app\n", "main:make()", "wsgi"),
    ("import functools\ndef inner(environ, start_response): return []\n"
     "@functools.wraps(inner)\ndef app(*a, **k): return inner(*a, **k)\n", "main:app", "wsgi"),
])
def test_the_interface_is_detected(app, mold, text, name, interface):
    app(text)
    assert mold(name, python="/usr/bin/python3").loaded()["interface"] == interface


def test_interface_overrides_the_detection(app, mold):
    app("def app(environ, start_response): pass\n")
    assert mold(interface="asgi").loaded()["interface"] == "asgi"
    app("def other(*arguments): pass\n", "other")
    assert mold("other:other", interface="wsgi").loaded()["interface"] == "wsgi"


def test_what_loading_left_open_is_named(app, mold, python):
    app('''
import select, socket, threading, time
listening = socket.create_server(("127.0.0.1", 0))
connected = socket.create_connection(listening.getsockname())
epoll = select.epoll()
threading.Thread(target=time.sleep, args=(1000,), name="reporter", daemon=True).start()
file = open("/dev/null")
pair = socket.socketpair()
''' + HELLO)
    left = mold(python=python).loaded()["left_open"]
    assert left[0] == "thread 'reporter'"
    assert sum(phrase.startswith("listening socket 127.0.0.1:") for phrase in left) == 1
    assert sum(phrase.startswith("connected socket to 127.0.0.1:") for phrase in left) == 1
    assert sum(phrase.startswith("epoll descriptor ") for phrase in left) == 1
    assert len(left) == 4


@pytest.mark.parametrize("load", [True, False], ids=["preloaded", "loaded by the worker"])
def test_signal_handlers_that_loading_set_do_not_reach_the_workers(app, mold, load):
    app('''
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, lambda *_: print("caught", flush=True))
''' + HELLO)
    running = mold(load=load)
    worker = running.serving_worker()
    os.kill(worker.pid, signal.SIGINT)
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.request()[0] == 200
    assert running.output() == ""


# ---- environment and interpreter

def test_directory_path_and_environment_of_the_application(app, mold, tmp_path):
    (tmp_path / "extra").mkdir()
    (tmp_path / "my.env").write_text("# comment\nexport FROM_FILE='a b'\nBOTH=file\n")
    app('''
import json, os, sys
async def app(scope, receive, send):
    assert scope["type"] == "http"
    found = {"path": sys.path[:2], "cwd": os.getcwd(), "argv": sys.argv,
             "env": {name: os.environ.get(name) for name in ("FROM_FILE", "BOTH", "INHERITED")}}
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps(found).encode()})
''')
    running = mold(python_path=["extra"], env_file="my.env", env={"BOTH": "env"},
                   environment={"INHERITED": "yes", "FROM_FILE": "inherited"})
    found = running.serving_worker().json()
    assert found == {"path": [str(tmp_path / "extra"), str(tmp_path)], "cwd": str(tmp_path),
                     "argv": ["mgr"],
                     "env": {"FROM_FILE": "a b", "BOTH": "env", "INHERITED": "yes"}}


def test_an_environment_file_that_cannot_be_read_is_reported(app, mold, tmp_path):
    app(HELLO)
    (tmp_path / "my.env").write_text("A=1\nnonsense\n")
    failure = mold(env_file="my.env").load_failed()
    assert failure["stage"] == "interpreter" and "my.env:2" in failure["error"]
    failure = mold(env_file="nowhere.env").load_failed()
    assert "nowhere.env: No such file" in failure["error"]
    failure = mold(chdir="/nowhere/at/all").load_failed()
    assert failure["error"] == "chdir: /nowhere/at/all: No such file or directory"


def test_a_virtual_environment_beside_the_application_is_used(app, mold, tmp_path, python):
    subprocess.run([python, "-m", "venv", "--without-pip", str(tmp_path / ".venv")], check=True)
    app("import sys\nassert sys.prefix != sys.base_prefix\n" + HELLO)
    assert mold().loaded()["interpreter"] == str(tmp_path / ".venv/bin/python3")
    again = mold(environment={"VIRTUAL_ENV": str(tmp_path / ".venv")}).loaded()
    assert again["interpreter"] == str(tmp_path / ".venv/bin/python3")


def test_an_interpreter_that_cannot_be_run_is_reported(app, mold, tmp_path):
    app(HELLO)
    (tmp_path / "fake").write_text("#!/nowhere\n")
    os.chmod(tmp_path / "fake", 0o755)
    for python, error in (("/nowhere/python3", "/nowhere/python3 is not an executable file"),
                          ("no-such-python", "no-such-python is not on PATH"),
                          (str(tmp_path / "fake"), "fake: No such file or directory")):
        running = mold(python=python)
        failure = running.load_failed()
        assert (failure["stage"], failure["exit_status"]) == ("interpreter", 4)
        assert error in failure["error"]
        assert running.wait() == 4


def test_an_interpreter_that_is_too_old_is_refused_by_name(app, mold, other_python):
    app(HELLO)
    failure = mold(python=other_python).load_failed()
    assert failure["stage"] == "interpreter"
    assert other_python in failure["error"] or os.path.realpath(other_python) in failure["error"]
    assert "mgr needs CPython 3.11 or newer" in failure["error"]
