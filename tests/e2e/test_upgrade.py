"""`mgr upgrade`: another program goes on in the supervisor's process, and no request is lost."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from metrics_harness import scrape
from mgr_harness import MGR, Load, no_loss, processes_with, read_response, wait_for
from test_native import install as install_library

BUILD = Path(os.environ["BUILD_DIR"])
OTHERS = BUILD / "tests/e2e/upgrade"
OURS, NEXT = Path(MGR), OTHERS / "next"
SLOW = {"NEXT_MGR": "slow"}


@pytest.fixture
def make_installed(make_mgr, tmp_path):
    """make_installed("echo", workers=2, …): a Mgr whose program is a copy, so that it can be replaced."""
    def make(app="echo", **settings):
        return make_mgr(app, program=installed(tmp_path / "prefix"),
                        **{"workers": 2, "min_ready": "100ms", **settings})
    return make


def installed(prefix):
    (prefix / "bin").mkdir(parents=True)
    (prefix / "libexec").symlink_to(OURS.resolve().parent.parent / "libexec")
    put(OURS, prefix / "bin/mgr")
    return prefix / "bin/mgr"


def put(program, path):
    """As a package manager does it: a new file takes the name."""
    new = path.with_name("mgr.new")
    shutil.copy(program, new)
    new.rename(path)


def replace(mgr, program):
    put(program, mgr.program)


def loads(mgr, rate=300):
    return Load(mgr, "new", rate), Load(mgr, "keep", rate, connections=16, depth=4)


def pids(mgr):
    return {worker["pid"] for worker in mgr.workers()}


def open_now(mgr):
    """What the supervisor has open, by kind."""
    links = []
    for link in Path(f"/proc/{mgr.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(link)
            links.append(target.split(":")[0] if ":" in target else target)
    return sorted(links)


def descriptors(mgr):
    """The same, once connections to the control socket are over."""
    seen = [open_now(mgr)]

    def same_again():
        seen.append(open_now(mgr))
        return len(seen) > 10 and all(kinds == seen[-1] for kinds in seen[-10:])

    wait_for(same_again, "nothing is opened or closed", period=0.03)
    return seen[-1]


def passing_an_exec(mgr):
    """Numbers of the supervisor's descriptors that a program which it executes would get."""
    flags = {int(info.name): int(re.search(r"^flags:\s+(\d+)", info.read_text(), re.MULTILINE)[1], 8)
             for info in Path(f"/proc/{mgr.pid}/fdinfo").iterdir()}
    return [number for number, flag in flags.items() if number > 2 and not flag & os.O_CLOEXEC]


def settled(mgr):
    wait_for(lambda: not mgr.status_now()["leaving"], "nobody is leaving")


def assert_goes_on_as_before(mgr, before):
    status = mgr.status()
    assert (status["pid"], status["version"], status["generation"]) == (
        mgr.pid, before["version"], before["generation"])
    assert [worker["pid"] for worker in status["workers"]] == [
        worker["pid"] for worker in before["workers"]]
    assert [worker["restarts"] for worker in status["workers"]] == [0] * len(status["workers"])
    assert status["uptime_s"] >= before["uptime_s"]
    mgr.must("reload")
    mgr.must("scale", "+1")
    assert mgr.get("/x") == (200, b"echo /x")
    assert passing_an_exec(mgr) == []


# ---- another build


@pytest.mark.parametrize("preload", ["on", "off"])
def test_an_upgrade_and_the_way_back_lose_nothing(make_installed, preload):
    mgr = make_installed(preload=preload).start()
    mgr.must("scale", 3)
    before, workers = mgr.status(), pids(mgr)
    with no_loss(*loads(mgr)):
        replace(mgr, NEXT)
        said = mgr.must("upgrade")
        assert said == f"mgr 9.9.9 is in the place of {before['version']}: generation 2 serves\n"
        after = mgr.status()
        replace(mgr, OURS)
        mgr.must("upgrade")
    assert (after["version"], after["generation"], after["pid"]) == ("9.9.9", 2, mgr.pid)
    assert after["target_workers"] == 3, "the scale holds"
    assert after["uptime_s"] > before["uptime_s"]
    assert not workers & {worker["pid"] for worker in after["workers"]}
    assert mgr.status()["version"] == before["version"] and mgr.status()["generation"] == 3
    assert [worker["restarts"] for worker in mgr.workers()] == [0, 0, 0]
    assert Path(f"/proc/{mgr.pid}/comm").read_text() == "mgr\n"
    mgr.must("stop")
    assert mgr.wait_exit() == 0


def test_ten_upgrades_in_a_row_lose_nothing_and_leave_nothing_open(make_installed):
    mgr = make_installed(admin="127.0.0.1:0").start()
    replace(mgr, NEXT)
    mgr.must("upgrade")
    settled(mgr)
    before = descriptors(mgr)
    with no_loss(*loads(mgr, 200)):
        for _ in range(10):
            mgr.must("upgrade")
    settled(mgr)
    assert descriptors(mgr) == before
    assert mgr.status()["generation"] == 12
    assert passing_an_exec(mgr) == []


def test_requests_that_take_long_are_finished(make_installed):
    mgr = make_installed().start()
    replace(mgr, NEXT)
    with mgr.connect() as connection:
        connection.sendall(b"GET /slow?3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        wait_for(lambda: sum(worker["in_flight"] for worker in mgr.status_now()["workers"]) == 1,
                 "in flight")
        mgr.must("upgrade")
        assert len(mgr.status()["leaving"]) == 1
        assert read_response(connection).body == b"slow"


def test_unix_sockets_and_inherited_ones_go_on_too(make_installed, tmp_path):
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        path = tmp_path / "app.sock"
        mgr = make_installed(bind=[f"unix:{path}", f"fd://{listener.fileno()}"])
        mgr.start(pass_fds=(listener.fileno(),))
        listeners = mgr.status()["listeners"]
        replace(mgr, NEXT)
        with no_loss(Load(unix=path, rate=200), Load(mgr, rate=200)):
            mgr.must("upgrade")
        assert mgr.status()["listeners"] == listeners
        mgr.must("stop")
        mgr.wait_exit()
        assert not path.exists()


def test_applications_in_c_plus_plus_go_on_too(make_installed):
    mgr = make_installed(target="app.so")
    install_library(mgr, "echo")
    mgr.start()
    replace(mgr, NEXT)
    with no_loss(*loads(mgr)):
        mgr.must("upgrade")
    assert mgr.status()["version"] == "9.9.9"


def test_usr2_upgrades(make_installed):
    mgr = make_installed(control="off", admin="127.0.0.1:0").launch()
    wait_for(lambda: "ready: 2 workers" in mgr.log, "ready")
    replace(mgr, NEXT)
    mgr.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: "upgrade finished: mgr 9.9.9 is in the place of" in mgr.log, "upgraded")
    mgr.process.send_signal(signal.SIGTERM)
    assert mgr.wait_exit() == 0


def test_process_1_of_a_container_can_be_upgraded(make_installed):
    prefix = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
    if subprocess.run([*prefix, "true"], capture_output=True).returncode != 0:
        pytest.skip("no namespaces can be made here")
    mgr = make_installed(command_prefix=prefix).start()
    replace(mgr, NEXT)
    with no_loss(*loads(mgr)):
        mgr.must("upgrade")
    assert (mgr.status()["pid"], mgr.status()["version"]) == (1, "9.9.9")
    mgr.must("stop")
    assert mgr.wait_exit() == 0


def test_a_link_to_another_installation_is_followed_anew(make_mgr, tmp_path):
    libexec = OURS.resolve().parent.parent / "libexec"
    for name, program in (("old", OURS), ("new", NEXT)):
        (tmp_path / name / "bin").mkdir(parents=True)
        shutil.copy(program, tmp_path / name / "bin/mgr")
        shutil.copytree(libexec, tmp_path / name / "libexec")
    current = tmp_path / "current"
    current.symlink_to("old")
    mgr = make_mgr(program=current / "bin/mgr", workers=2, min_ready="100ms").start()
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").rename(current)
    mgr.must("upgrade")
    assert mgr.status()["version"] == "9.9.9"
    settled(mgr)
    wait_for(lambda: {installation(pid, tmp_path) for pid in processes_with(mgr.mark)
                      if pid != mgr.pid} == {"new"}, "molds and workers are the new ones'")


def installation(pid, tmp_path):
    maps = Path(f"/proc/{pid}/maps").read_text()
    return next((name for name in ("old", "new") if f"{tmp_path}/{name}/libexec" in maps), None)


def test_counters_do_not_fall_and_the_logs_go_on(make_installed, tmp_path):
    mgr = make_installed(log_file=tmp_path / "own.log", access_log=tmp_path / "access.log",
                         admin="127.0.0.1:0")
    mgr.launch()
    mgr.wait_ready()
    log = tmp_path / "own.log"
    for _ in range(20):
        mgr.get("/x")
    os.kill(mgr.workers()[0]["pid"], signal.SIGKILL)
    wait_for(lambda: mgr.workers()[0]["restarts"] == 1, "started again")
    mgr.wait_ready()
    before = scrape(mgr)
    replace(mgr, NEXT)
    mgr.must("upgrade")
    after = scrape(mgr)
    fallen = {series: (value, after.growing().get(series)) for series, value in
              before.growing().items() if after.growing().get(series, -1) < value}
    assert fallen == {}
    assert after("mgr_worker_restarts_total", reason="killed") == 1
    mgr.get("/last")
    assert "mgr 9.9.9 takes over from" in log.read_text()
    assert "/last" in (tmp_path / "access.log").read_text()
    address = [line.split()[-1] for line in log.read_text().splitlines() if "admin listener" in line]
    status = subprocess.run(["curl", "-fsS", f"http://{address[0]}/readyz"], capture_output=True)
    assert status.stdout == b"ok\n"
    mgr.must("stop")


def test_a_worker_that_dies_afterwards_is_replaced(make_installed):
    mgr = make_installed().start()
    replace(mgr, NEXT)
    mgr.must("upgrade")
    for _ in range(3):
        pid = mgr.workers()[1]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: mgr.status_now()["workers"][1]["pid"] not in (pid, None), "another")
        wait_for(lambda: mgr.status_now()["workers"][1]["state"] == "ready", "is ready")
    assert "Killed" in mgr.workers()[1]["last_exit"]


def test_the_api_answers_the_connection_that_asked(make_installed):
    mgr = make_installed().start()
    replace(mgr, NEXT)
    status, body, headers = mgr.api("POST", "/v1/upgrade", {})
    assert (status, headers["content-type"]) == (200, "application/json")
    assert body["message"].startswith("mgr 9.9.9 is in the place of")
    status, body, headers = mgr.api("GET", "/v1/upgrade")
    assert (status, body["title"]) == (405, "Method Not Allowed")


def test_clients_of_the_control_socket_are_all_answered_meanwhile(make_installed):
    mgr = make_installed().start()
    replace(mgr, NEXT)
    upgrade = subprocess.Popen([MGR, "upgrade", "--control", mgr.control])
    asked = 0
    while upgrade.poll() is None:
        assert mgr.status_now()["pid"] == mgr.pid
        asked += 1
    assert upgrade.returncode == 0 and asked > 20


# ---- builds that can't take over


@pytest.mark.parametrize("program, behaviour, reason", [
    (NEXT, "crash", "killed by signal 6"),
    (OTHERS / "next_format", "", "format of the saved state is 1, this program's is 2"),
    (Path("/bin/true"), "", "does not know how to go on from a saved state"),
    (Path(__file__), "", "Permission denied"),
    (None, "", "No such file or directory"),
])
def test_a_program_that_can_not_go_on_is_refused(make_installed, program, behaviour, reason):
    mgr = make_installed(env={"NEXT_MGR": behaviour}).start()
    before, opened = mgr.status(), descriptors(mgr)
    if program:
        replace(mgr, program)
    else:
        mgr.program.unlink()
    with no_loss(*loads(mgr)):
        done = mgr.run("upgrade")
        assert done.returncode == 1 and reason in done.stderr, done.stderr
        assert done.stderr.endswith(f"mgr {before['version']} goes on\n")
    assert descriptors(mgr) == opened
    assert_goes_on_as_before(mgr, before)


def test_a_file_that_is_no_program_is_refused(make_installed, tmp_path):
    mgr = make_installed().start()
    (tmp_path / "text").write_text("no program\n")
    (tmp_path / "text").chmod(0o755)
    replace(mgr, tmp_path / "text")
    done = mgr.run("upgrade")
    assert done.returncode == 1 and "Exec format error" in done.stderr


@pytest.mark.parametrize("behaviour, reason", [
    ("abort", "killed by signal 06"),
    ("exit", "it ended with exit status 17"),
    ("throw", "killed by signal 06"),
    ("segv", "killed by signal 11"),
    ("hang", "its loop did not turn within 5 s"),
])
def test_a_program_that_fails_once_it_is_executed_gives_the_process_back(make_installed, behaviour,
                                                                         reason):
    mgr = make_installed(env={"NEXT_MGR": behaviour}).start()
    before, opened = mgr.status(), descriptors(mgr)
    replace(mgr, NEXT)
    with no_loss(*loads(mgr)):
        done = mgr.run("upgrade")
        assert done.returncode == 1 and reason in done.stderr, done.stderr
        assert done.stderr.endswith(f"mgr {before['version']} goes on\n")
    assert descriptors(mgr) == opened
    assert_goes_on_as_before(mgr, before)
    mgr.must("stop")
    assert mgr.wait_exit() == 0


def test_an_execution_that_fails_after_the_trial_changes_nothing(make_installed):
    mgr = make_installed(env=SLOW).start()
    before, opened = mgr.status(), descriptors(mgr)
    replace(mgr, NEXT)
    with no_loss(*loads(mgr)):
        upgrade = begin_upgrade(mgr)
        mgr.program.chmod(0o644)
        _, error = upgrade.communicate(timeout=30)
    assert upgrade.returncode == 1
    assert error == f"refused: {mgr.program}: Permission denied; mgr {before['version']} goes on\n"
    assert descriptors(mgr) == opened
    assert_goes_on_as_before(mgr, before)


def test_one_that_was_given_its_process_back_can_be_upgraded_later(make_installed):
    mgr = make_installed(env={"NEXT_MGR": "abort"}).start()
    replace(mgr, NEXT)
    assert mgr.run("upgrade").returncode == 1
    replace(mgr, OURS)
    with no_loss(*loads(mgr)):
        mgr.must("upgrade")
    assert mgr.status()["generation"] == 2


@pytest.mark.parametrize("text, reason", [
    ("keep_alive: sometimes\n", "mgr.yaml:1: keep_alive"), ("", "no application is given")])
def test_a_configuration_that_the_new_program_refuses_leaves_the_old_one(make_installed, text, reason):
    mgr = make_installed(target=None)
    (mgr.directory / "mgr.yaml").write_text("app: main:app\nkeep_alive: 5s\n")
    mgr.start()
    before = mgr.status()
    (mgr.directory / "mgr.yaml").write_text(text)
    replace(mgr, NEXT)
    done = mgr.run("upgrade")
    assert done.returncode == 1 and reason in done.stderr, done
    (mgr.directory / "mgr.yaml").write_text("app: main:app\nkeep_alive: 6s\n")
    assert_goes_on_as_before(mgr, before)


def test_an_application_that_does_not_load_any_more_is_served_by_its_old_workers(make_installed):
    mgr = make_installed().start()
    before = pids(mgr)
    good = (mgr.directory / "main.py").read_text()
    mgr.deploy_text("raise ValueError('not today')")
    replace(mgr, NEXT)
    with no_loss(*loads(mgr)):
        done = mgr.run("upgrade")
    assert done.returncode == 1
    assert "mgr 9.9.9 is in the place of" in done.stderr
    assert "its workers are those of before: rolled back" in done.stderr
    assert "ValueError: not today" in done.stderr
    assert pids(mgr) == before and mgr.status()["version"] == "9.9.9"
    mgr.deploy_text(good)
    mgr.must("reload")
    assert mgr.status()["generation"] == 2 and not pids(mgr) & before


# ---- beside other changes


def begin_upgrade(mgr):
    upgrade = subprocess.Popen([MGR, "upgrade", "--control", mgr.control], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    wait_for(lambda: "upgrade: trying" in mgr.log, "the trial has begun")
    return upgrade


def test_what_is_asked_for_meanwhile_is_done_and_a_second_upgrade_refused(make_installed):
    mgr = make_installed(env=SLOW).start()
    replace(mgr, NEXT)
    upgrade = begin_upgrade(mgr)
    status, body, _ = mgr.api("POST", "/v1/upgrade")
    assert (status, body["detail"]) == (409, "refused: an upgrade is under way")
    assert mgr.must("scale", 3) == "3 workers\n"
    out, error = upgrade.communicate(timeout=30)
    assert upgrade.returncode == 0, error
    assert mgr.status()["version"] == "9.9.9" and mgr.status()["target_workers"] == 3


def test_a_stop_ends_it(make_installed):
    mgr = make_installed(env=SLOW).start()
    replace(mgr, NEXT)
    upgrade = begin_upgrade(mgr)
    mgr.process.send_signal(signal.SIGTERM)
    assert mgr.wait_exit(10) == 0
    _, error = upgrade.communicate(timeout=10)
    assert upgrade.returncode == 1 and "interrupted: the supervisor is stopping" in error
    mgr.assert_nothing_left()


def test_signals_at_any_moment_are_obeyed(make_installed):
    """One worker more and one less, again and again: each counts, none ends anything."""
    mgr = make_installed().start()
    replace(mgr, NEXT)
    sent = 0
    with no_loss(Load(mgr, "new", 200)):
        for _ in range(3):
            upgrade = subprocess.Popen([MGR, "upgrade", "--control", mgr.control])
            while upgrade.poll() is None:
                os.kill(mgr.pid, signal.SIGTTIN if sent % 2 == 0 else signal.SIGTTOU)
                sent += 1
                wait_for(lambda: mgr.log.count("SIGTT") == sent, "the signal has come")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    upgrade.wait(0.03)
            assert upgrade.returncode == 0
    assert mgr.status()["version"] == "9.9.9"
    wait_for(lambda: len(mgr.workers()) == 2 + sent % 2, "all signals are obeyed")


def test_a_worker_that_dies_during_the_trial_is_replaced(make_installed):
    mgr = make_installed(env=SLOW).start()
    replace(mgr, NEXT)
    upgrade = begin_upgrade(mgr)
    pid = mgr.workers()[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: mgr.workers()[0]["pid"] not in (None, pid), "replaced")
    assert upgrade.wait(30) == 0
    upgrade.communicate()
    assert [worker["restarts"] for worker in mgr.workers()] == [1, 0]


def test_a_client_that_leaves_changes_nothing(make_installed):
    mgr = make_installed(env=SLOW).start()
    replace(mgr, NEXT)
    upgrade = begin_upgrade(mgr)
    upgrade.kill()
    upgrade.communicate()
    wait_for(lambda: mgr.status()["version"] == "9.9.9", "upgraded all the same")
    wait_for(lambda: mgr.status()["generation"] == 2, "rolled")
