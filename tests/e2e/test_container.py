"""The image of deploy/docker, built as it is shipped and run by a container engine."""

import json
import os
import re
import threading
import time
import zipfile
from pathlib import Path

import pytest
from container_harness import (STORAGE, TARGETS, Container, build, buildah, image, make_images, podman,
                               skip_unless_possible, skip_unless_runnable)
from mgr_harness import APPS, ROOT, Load, no_loss, read_response, wait_for

DOCKER = ROOT / "deploy/docker"
USER = 10001
ENGINE_PATIENCE = 10  # seconds between SIGTERM and SIGKILL, by default, of docker and podman

# The modules of Debian's python3-fastapi and what it needs: requirements by distribution.
DISTRIBUTIONS = {"fastapi": ["pydantic", "starlette"], "pydantic": ["typing_extensions"],
                 "starlette": ["anyio"], "anyio": ["idna", "sniffio"],
                 "typing_extensions": [], "idna": [], "sniffio": []}

WAITS_FOR_GO = '''
import asyncio, os

async def app(scope, receive, send):
    await receive()
    while not os.path.exists("/tmp/go"):
        await asyncio.sleep(0.05)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
'''


@pytest.fixture(scope="module")
def images():
    skip_unless_possible()
    STORAGE.mkdir(parents=True, exist_ok=True)
    make_images()
    yield
    assert str(STORAGE) not in Path("/proc/self/mounts").read_text(), "left mounted"


@pytest.fixture(scope="module")
def runnable(images):
    skip_unless_runnable(image("native"))


@pytest.fixture
def start(runnable, tmp_path):
    """start(app, option, …): a container with apps/APP.py, or such a text, as its application."""
    made = []

    def begin(app="echo", *options, **more):
        directory = tmp_path / f"app{len(made)}"
        directory.mkdir()
        text = app if "\n" in app else (APPS / f"{app}.py").read_text()
        (directory / "main.py").write_text(text)
        tmp_path.chmod(0o755)
        mounted = ["--volume", f"{directory}:/app:ro", "--env", "MGR_APP=main:app"]
        made.append(Container(image("python"), *mounted, *options, **more))
        return made[-1]

    yield begin
    for container in made:
        container.end()


# ---- what the image is


SERVING = pytest.mark.parametrize("target", ["python", "native"])


@SERVING
def test_the_image_is_configured_as_its_readme_says(images, target):
    config = json.loads(podman("image", "inspect", image(target)).stdout)[0]
    variables = dict(entry.split("=", 1) for entry in config["Config"]["Env"])
    assert variables["MGR_BIND"] == ":8000" and variables["MGR_GRACEFUL_TIMEOUT"] == "8s"
    assert config["Config"]["User"] == f"{USER}:{USER}"
    assert config["Config"]["Cmd"] == ["mgr", "run"] and not config["Config"].get("Entrypoint")
    assert config["Config"]["StopSignal"] == "SIGTERM"
    assert config["Config"]["WorkingDir"] == "/app"
    assert list(config["Config"]["ExposedPorts"]) == ["8000/tcp"]
    assert config["Healthcheck"]["Test"] == ["CMD", "mgr", "ready"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_image_is_no_larger_than_its_readme_says(images, target):
    size = int(podman("image", "inspect", "--format", "{{.Size}}", image(target)).stdout)
    stated = int(re.search(rf"`mgr:{target}` \| \*\*(\d+) MB\*\*", (DOCKER / "README.md").read_text())[1])
    print(f"{size / 1e6:.1f} MB")
    assert stated - 10 <= size / 1e6 <= stated + 5


def test_nothing_of_the_build_is_in_the_image(start):
    container = start()
    look = "ls -d /src /build; command -v gcc c++ cmake ninja"
    left = container.exec("sh", "-c", look, check=False)
    assert left.stdout == ""
    files = container.exec("find", "/", "-xdev", "-type", "f", check=False).stdout.splitlines()
    assert len(files) > 1000 and not [name for name in files if name.endswith((".a", ".deb"))]
    assert container.exec("mgr", "version").stdout.startswith("mgr ")


# ---- how it runs


def test_it_serves_without_root_or_capabilities_and_with_a_read_only_root(start):
    container = start("echo", "--cap-drop", "all", "--security-opt", "no-new-privileges")
    container.wait_ready()
    assert container.get("/echo/x").body == b"echo /echo/x"
    processes = container.processes()
    assert len(processes) >= 3 and {uid for _, uid, _ in processes} == {USER}, processes
    assert (container.pid, USER, "mgr") in processes
    assert "Read-only" not in container.log
    assert container.exec("touch", "/app/x", check=False).returncode != 0
    assert container.exec("ls", "/tmp/mgr-10001").stdout.endswith(".sock\n")


def test_without_any_writable_place_the_control_socket_is_abstract(start):
    container = start(read_only=("--read-only", "--read-only-tmpfs=false")).wait_ready()
    assert container.exec("touch", "/tmp/x", check=False).returncode != 0
    assert container.health() == 0
    assert "@mgr-10001-" in container.exec("cat", "/proc/net/unix").stdout
    assert container.get("/echo/x").status == 200


def test_with_a_writable_root_nothing_is_written_outside_of_tmp(start):
    container = start(read_only=()).wait_ready()
    assert container.get("/echo/x").status == 200
    changed = podman("diff", container.id).stdout.splitlines()
    assert [line for line in changed if line.startswith("A /tmp/mgr-10001")], changed
    # What is not under /tmp is the engine's: where it mounts.
    engines = r"[AC] /(tmp|run|etc|dev|proc|sys)\b"
    assert not [line for line in changed if not re.match(engines, line)], changed


def test_the_health_check_fails_until_the_application_is_ready(start):
    container = start(WAITS_FOR_GO)
    wait_for(lambda: "generation 1: application loaded" in container.log, "loaded")
    assert container.health() == 1
    container.exec("touch", "/tmp/go")
    wait_for(lambda: container.health() == 0, "healthy")


def test_an_orphan_of_the_application_is_reaped_by_process_1(start):
    container = start("processes").wait_ready()
    orphans = [container.get("/orphan").body for _ in range(5)]
    assert all(orphan.isdigit() for orphan in orphans)
    states = "grep -h ^State /proc/[0-9]*/status; grep -l sleep /proc/[0-9]*/comm"

    def all_reaped():
        shown = container.exec("sh", "-c", states, check=False).stdout
        return "State" in shown and "zombie" not in shown and "/comm" not in shown

    wait_for(all_reaped, "the orphans have ended and none is a zombie")


def test_a_reload_within_the_container_loses_nothing(start):
    container = start("echo", "--env", "MGR_WORKERS=2", "--env", "MGR_MIN_READY=100ms").wait_ready()
    inside = ["nsenter", f"--net=/proc/{container.pid}/ns/net"]
    with no_loss(Load(connect="127.0.0.1:8000", mode="new", rate=200, prefix=inside)):
        for _ in range(3):
            container.exec("mgr", "reload")


# ---- the end


def stop_with_request(container, seconds):
    """(response or None, exit status, seconds that the engine's ordinary stop took)"""
    answers = []
    connection = container.connect()
    connection.settimeout(60)
    connection.sendall(b"GET /slow?%d HTTP/1.1\r\nHost: x\r\n\r\n" % seconds)
    wait_for(lambda: any(worker["in_flight"] for worker in container.status()["workers"]),
             "in flight")

    def receive():
        try:
            answers.append(read_response(connection))
        except (AssertionError, OSError):
            answers.append(None)

    thread = threading.Thread(target=receive)
    thread.start()
    began = time.monotonic()
    podman("stop", container.id)
    took = time.monotonic() - began
    thread.join()
    connection.close()
    return answers[0], int(container.inspect("{{.State.ExitCode}}")), took


def test_a_stop_finishes_a_request_of_5_seconds_within_the_10_of_the_engine(start):
    answer, status, took = stop_with_request(start().wait_ready(), 5)
    assert answer.status == 200 and answer.body == b"slow"
    assert status == 0 and took < ENGINE_PATIENCE


def test_a_request_that_takes_too_long_is_cut_before_the_engine_kills(start):
    answer, status, took = stop_with_request(start().wait_ready(), 60)
    assert answer is None
    assert status == 0 and 8 <= took < ENGINE_PATIENCE


# ---- limits


@pytest.mark.parametrize("cpus, memory, most",
                         [("1", "512m", 1), ("1.5", "512m", 2), ("2", "60m", 1)])
def test_auto_is_as_many_workers_as_the_limits_of_the_container_allow(start, cpus, memory, most):
    container = start("echo", "--cpus", cpus, "--memory", memory).wait_ready()
    assert container.status()["target_workers"] == min(len(os.sched_getaffinity(0)), most)


# ---- an application in three lines


def make_wheel(directory, name, requirements):
    """A wheel of what Debian has installed, so that pip needs no index on the network."""
    packages = Path("/usr/lib/python3/dist-packages")
    info = f"{name}-1.0.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requirements]
    module = packages / name
    files = sorted(module.rglob("*")) if module.is_dir() else [packages / f"{name}.py"]
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path in files:
            if path.is_file() and "__pycache__" not in path.parts:
                wheel.write(path, path.relative_to(packages))
        wheel.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")


def dockerfiles_of_readme():
    return re.findall(r"```dockerfile\n(.*?)```", (DOCKER / "README.md").read_text(), re.DOTALL)


def assert_example_is_served(name):
    container = Container(name)
    try:
        container.wait_ready()
        assert json.loads(container.get("/hello/you").body) == {"greeting": "Hello, you!"}
        assert container.health() == 0
        assert {uid for _, uid, _ in container.processes()} == {USER}
    finally:
        container.end()
        buildah("rmi", name)


def test_the_example_is_an_application_in_three_lines(runnable, tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    tmp_path.chmod(0o755)
    for name, requirements in DISTRIBUTIONS.items():
        make_wheel(wheels, name, requirements)
    (tmp_path / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    text = (DOCKER / "example-python/Dockerfile").read_text()
    assert [line.split()[0] for line in text.splitlines()] == ["FROM", "COPY", "RUN"]
    assert text == dockerfiles_of_readme()[0]
    build(DOCKER / "example-python", "--volume", f"{wheels}:/wheels:ro", "--volume",
          f"{tmp_path}/pip.conf:/etc/pip.conf:ro", "-t", "localhost/mgr-example")
    assert_example_is_served("localhost/mgr-example")


def test_an_application_with_packages_of_debian(runnable, tmp_path):
    (tmp_path / "Dockerfile").write_text(dockerfiles_of_readme()[1])
    build(DOCKER / "example-python", "-f", tmp_path / "Dockerfile", "-t", "localhost/mgr-example-debian")
    assert_example_is_served("localhost/mgr-example-debian")


# ---- an application in C++


def test_the_native_image_has_no_python(runnable):
    container = Container(image("native"), "--env", "MGR_APP=main:app", "--env", "MGR_WORKERS=1")
    try:
        podman("wait", container.id)
        assert int(container.inspect("{{.State.ExitCode}}")) == 4
        last = container.log.strip().splitlines()[-1]
        assert "no host for Python applications" in last and "path/to/lib.so" in last, last
    finally:
        container.end()
    root = Path(buildah("from", image("native")).stdout.strip())
    try:
        tree = Path(buildah("mount", root).stdout.strip())
        assert (tree / "usr/local/bin/mgr").is_file()
        assert not list(tree.glob("usr/bin/python*")) and not list(tree.glob("usr/lib/python*"))
        assert not (tree / "usr/local/libexec/mgr/python").exists()
        assert not list(tree.glob("usr/bin/*g++*"))
    finally:
        buildah("rm", root)


def test_an_application_in_cpp_is_compiled_by_one_image_and_served_by_the_other(runnable):
    text = (DOCKER / "example-native/Dockerfile").read_text()
    assert text == dockerfiles_of_readme()[2]
    build(ROOT / "examples/hello", "-f", DOCKER / "example-native/Dockerfile", "-t", "localhost/mgr-example-native")
    container = Container("localhost/mgr-example-native", "--cap-drop", "all", "--security-opt",
                          "no-new-privileges")
    try:
        container.wait_ready()
        assert container.get("/you").body == b"hello /you\n"
        assert container.health() == 0
        assert {uid for _, uid, _ in container.processes()} == {USER}
        container.exec("mgr", "reload")
        assert container.get("/you").body == b"hello /you\n"
        podman("stop", container.id)
        assert container.inspect("{{.State.ExitCode}}") == "0"
    finally:
        container.end()
        buildah("rmi", "localhost/mgr-example-native")
