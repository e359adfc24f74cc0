import glob
import os
import shutil
import subprocess

import pytest

import mold_harness

LOOPS = ("mgr", "asyncio", "uvloop")
PROBE = ("import os, sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2], "
         "'t' if 't' in getattr(sys, 'abiflags', '') else '-', os.path.realpath(sys.executable))")


def candidates():
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        yield from sorted(glob.glob(os.path.join(directory, "python3")))
        yield from sorted(glob.glob(os.path.join(directory, "python3.[0-9]*")))
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    yield from sorted(glob.glob(os.path.join(root, "versions", "*", "bin", "python3")))


def probe(path):
    try:
        done = subprocess.run([path, "-c", PROBE], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.split() if done.returncode == 0 else None


def find_interpreters():
    """One CPython of each minor version from 3.11, the system's first: {version: path}."""
    found, seen = {}, set()
    for path in ["/usr/bin/python3", *candidates()]:
        if not os.path.exists(path) or os.path.realpath(path) in seen or "shims" in path:
            continue
        seen.add(os.path.realpath(path))
        answer = probe(path)
        if not answer or answer[0] != "cpython" or answer[2] == "t":
            continue
        if tuple(map(int, answer[1].split("."))) >= (3, 11):
            found.setdefault(answer[1], path)
    return found


def loops_of(path):
    """The values of the setting `loop` that it can serve."""
    has = subprocess.run([path, "-c", "import uvloop"], capture_output=True, timeout=20).returncode == 0
    return [loop for loop in LOOPS if loop != "uvloop" or has]


INTERPRETERS = find_interpreters()
LOOPS_OF = {version: loops_of(path) for version, path in INTERPRETERS.items()}
assert "uvloop" in LOOPS_OF["3.11"], "/usr/bin/python3 has no uvloop"
APPS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "apps")


def pytest_report_header(config):
    return "interpreters: " + ", ".join(f"{version} {path} (loops: {', '.join(LOOPS_OF[version])})"
                                        for version, path in INTERPRETERS.items())


def pytest_configure(config):
    mold_harness.become_subreaper()


@pytest.fixture(params=sorted(INTERPRETERS), scope="module")
def python(request):
    """Each CPython of this machine in turn."""
    return INTERPRETERS[request.param]


@pytest.fixture(params=[(version, loop) for version in sorted(INTERPRETERS) for loop in LOOPS_OF[version]],
                ids="-".join, scope="module")
def python_and_loop(request):
    """Each CPython of this machine in turn, with each loop that it has."""
    version, loop = request.param
    return INTERPRETERS[version], loop


@pytest.fixture
def app(tmp_path):
    """Writes the application's module: app(text, name="main")."""
    def write(text, name="main"):
        (tmp_path / f"{name}.py").write_text(text)
        return tmp_path
    return write


@pytest.fixture
def mold(tmp_path):
    """Starts molds that end with the test: mold(app, directory=tmp_path, **settings)."""
    started = []

    def start(name="main:app", directory=tmp_path, **settings):
        if directory != tmp_path:  # the logs of an application that several tests share
            settings.setdefault("python_path", [str(directory)])
            directory = tmp_path
        started.append(mold_harness.Mold(directory, name, **settings))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def other_python():
    """A path to an interpreter that mgr refuses; skips where the machine has none."""
    for path in candidates():
        if "shims" in path:
            continue
        answer = probe(path)
        if answer and answer[0] == "cpython" and tuple(map(int, answer[1].split("."))) < (3, 11):
            return path
    pytest.skip("no Python older than 3.11 here")


assert shutil.which("python3"), "no python3 on PATH"
