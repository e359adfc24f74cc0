"""The commands of README.md's "In production", as they stand there, on a booted Debian."""

import re
import shutil

import pytest
from mgr_harness import ROOT, wait_for
from systemd_harness import Booted

README = (ROOT / "README.md").read_text()


def block(heading, number):
    """The commands of the number-th ```sh block under a heading."""
    section = README.split(f"\n{heading}\n", 1)[1].split("\n### ", 1)[0].split("\n## ", 1)[0]
    commands = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[number]
    return [line for line in commands.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    booted = Booted(tmp_path_factory.mktemp("readme"), own_network=True)
    try:
        booted.boot()
        for name in ("deploy", "examples"):
            shutil.copytree(ROOT / name, booted.path(f"/root/mgr/{name}"), symlinks=True)
        booted.path("/srv").mkdir(exist_ok=True)
        booted.run("systemctl", "enable", "--now", "nginx")
        yield booted
    finally:
        booted.end()


def execute(system, command, check=True):
    return system.run("sh", "-ec", f"cd /root/mgr\n{command}", check=check)


def test_a_systemd_unit_behind_nginx(system):
    *setup, request = block("### A systemd unit behind nginx", 0)
    for command in setup:
        execute(system, command)
    # `systemctl reload nginx` returns before nginx has read its configuration.
    answer = wait_for(lambda: execute(system, request, check=False).stdout, "nginx has the site")
    assert answer == '{"greeting":"Hello, world!"}'

    shown = {}
    for command in block("### A systemd unit behind nginx", 1):
        program = command.split("#")[0].strip()
        shown[program] = execute(system, command).stdout
    assert "12 of 12 workers ready, generation 2" in shown["mgr status"]
    assert re.search(r'^mgr_http_requests_total\{status="2xx"\} 1$',
                     shown["curl -fsS http://127.0.0.1:9100/metrics"], re.MULTILINE)
    assert "12 workers, generation 2" in shown["systemctl status mgr@shop"]


def test_a_deploy_that_does_not_start_fails_and_changes_nothing(system):
    good = system.path("/srv/shop/main.py").read_text()
    system.write("/srv/shop/main.py", "import nothing_of_this_name\n")
    try:
        failed = system.run("systemctl", "reload", "mgr@shop", check=False)
        assert failed.returncode != 0
        errors = system.run("journalctl", "-u", "mgr@shop", "-p", "err", "-o", "cat").stdout
        assert "ModuleNotFoundError: No module named 'nothing_of_this_name'" in errors
        served = system.run("curl", "-fsS", "-H", "Host: example.com", "http://127.0.0.1/hello/you")
        assert served.stdout == '{"greeting":"Hello, you!"}'
    finally:
        system.write("/srv/shop/main.py", good)


def test_the_container_commands_are_those_that_the_container_test_runs():
    tested = (ROOT / "deploy/docker/README.md").read_text()
    commands = block("### A container", 0)
    assert len(commands) == 3
    for command in commands:
        assert command in tested


def test_a_stop_behind_nginx_takes_a_second_and_not_a_keep_alive(system):
    execute(system, block("### A systemd unit behind nginx", 0)[-1])
    system.run("systemctl", "stop", "mgr@shop", seconds=20)
    log = system.run("journalctl", "-u", "mgr@shop", "-o", "cat").stdout
    assert "requests cut" not in log
    wait_for(lambda: system.systemctl("is-active", "mgr@shop", check=False).stdout.strip() == "inactive",
             "stopped")
