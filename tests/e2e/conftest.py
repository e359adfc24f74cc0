import contextlib
import os
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import mgr_harness  # noqa: E402
import network_harness  # noqa: E402


def pytest_configure(config):
    for name in ("MGR_BIN", "LOAD_CLIENT"):
        if not os.access(os.environ.get(name, ""), os.X_OK):
            pytest.exit(f"{name} must name the program to test", returncode=2)


@contextlib.contextmanager
def supervisors_in(base):
    made = []

    def make(app="echo", **settings):
        directory = base / f"mgr{len(made)}"
        directory.mkdir()
        made.append(mgr_harness.Mgr(directory, app, **settings))
        return made[-1]

    yield make
    problems = []
    for mgr in reversed(made):
        try:
            mgr.end()
        except AssertionError as problem:
            problems.append(str(problem))
        print(f"---- log of {mgr.directory.parent.name}\n{mgr.log[-6000:]}")
    assert not problems, "\n".join(problems)


@pytest.fixture
def make_mgr(tmp_path):
    """make_mgr(app="echo", workers=2, …): a Mgr that is not started; ended after the test."""
    with supervisors_in(tmp_path) as make:
        yield make


@pytest.fixture
def make_open_mgr():
    """make_mgr(), in a directory that everybody may read, as that of an application must be where it runs as
    another user. It is not below pytest's own, which each run of pytest closes to others when it begins."""
    with tempfile.TemporaryDirectory(prefix="mgr-test-") as name:
        os.chmod(name, 0o755)
        with supervisors_in(Path(name)) as make:
            yield make


@pytest.fixture
def network():
    """Two namespaces, and packets between them that can be dropped."""
    if not network_harness.namespaces_are_possible():
        pytest.skip("needs root, ip and nft, and network namespaces")
    made = network_harness.Network()
    yield made
    made.close()
