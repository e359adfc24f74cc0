"""Wrong input: one clear line that names what is wrong, and the exit status of the contract."""

import os
import socket
import subprocess

import pytest
from mgr_harness import MGR, free_port, wait_for


def one_line(done, *words):
    """The last line is the only one, and names everything in `words`."""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0], lines[0]


def run_to_end(mgr, **options):
    mgr.launch(**options)
    status = mgr.wait_exit()
    return status, [line for line in mgr.log.splitlines() if line.strip()]


def environment(tmp_path, **more):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MGR_")}
    return kept | {"XDG_RUNTIME_DIR": str(tmp_path)} | more


def mgr_command(tmp_path, *arguments, **more):
    return subprocess.run([MGR, *arguments], cwd=tmp_path, env=environment(tmp_path, **more),
                          capture_output=True, text=True, timeout=30)


def test_a_port_in_use_by_a_stranger_is_named(make_mgr):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        address = "127.0.0.1:%d" % stranger.getsockname()[1]
        status, lines = run_to_end(make_mgr("echo", workers=1, bind=address))
    assert status == 1
    assert address in lines[-1] and "in use" in lines[-1], lines


def test_a_port_in_use_by_a_reuseport_stranger_is_named(make_mgr):
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        address = "127.0.0.1:%d" % stranger.getsockname()[1]
        status, lines = run_to_end(make_mgr("echo", workers=1, bind=address))
    assert status == 1 and address in lines[-1]


def test_a_port_in_use_by_another_mgr_is_named_and_the_other_serves_on(make_mgr):
    first = make_mgr("echo", workers=2).start()
    address = first.address
    status, lines = run_to_end(make_mgr("echo", workers=2, bind=address))
    assert status == 1
    assert address in lines[-1] and "in use" in lines[-1], lines
    assert all(first.get("/x")[0] == 200 for _ in range(20))


def test_a_path_without_permission_is_named(make_mgr):
    status, lines = run_to_end(make_mgr("echo", workers=1, bind="unix:/proc/none.sock"))
    assert status == 1 and "/proc/none.sock" in lines[-1], lines


def test_an_address_that_is_not_here_is_named(make_mgr):
    status, lines = run_to_end(make_mgr("echo", workers=1, bind="192.0.2.1:8000"))
    assert status == 1 and "192.0.2.1:8000" in lines[-1], lines


@pytest.mark.parametrize("text", ["0", "abc", "+", "-", "513", "+600", "-600", "1.5", "", " ",
                                  "1x", "99999999999999999999"])
def test_scale_refuses_what_is_no_number_or_out_of_range(make_mgr, text):
    mgr = make_mgr("echo", workers=2).start()
    done = mgr.run("scale", text)
    assert done.returncode == 2, (done.returncode, done.stderr)
    one_line(done, text.strip() or "scale")
    assert mgr.status()["target_workers"] == 2


def test_a_relative_scale_out_of_range_is_refused_by_the_supervisor(make_mgr):
    mgr = make_mgr("echo", workers=3).start()
    for text in ("-99", "-3", "+510"):
        done = mgr.run("scale", text)
        assert done.returncode == 1
        one_line(done, str(3 + int(text)), "1 to 512")
        assert mgr.status()["target_workers"] == 3


def test_a_second_supervisor_of_the_same_control_socket_is_refused(make_mgr):
    first = make_mgr("echo", workers=1).start()
    second = make_mgr("echo", workers=1, bind="127.0.0.1:0", control=first.control)
    status, lines = run_to_end(second)
    assert status == 1 and str(first.control) in lines[-1], lines
    assert first.get("/x")[0] == 200
    assert first.status()["pid"] == first.pid


def test_a_second_supervisor_of_the_same_name_is_refused(make_mgr, tmp_path):
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
    first = make_mgr("echo", workers=1, name="twin", env=runtime, control=None)
    first.control = tmp_path / "mgr" / "twin.sock"
    first.start()
    status, lines = run_to_end(
        make_mgr("echo", workers=1, name="twin", env=runtime, bind="127.0.0.1:0", control=None))
    assert status == 1 and "twin" in lines[-1], lines


def test_a_stale_control_socket_is_replaced(make_mgr):
    mgr = make_mgr("echo", workers=1)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(mgr.control))
    mgr.start()
    assert mgr.get("/x")[0] == 200


CONFIGURATIONS = {
    "a_tab": ("workers: 2\n\tapp: main:app\n", ["mgr.yaml:2"]),
    "a_tab_as_indentation": ("env:\n\tA: b\n", ["mgr.yaml:2"]),
    "a_type_error": ("app: main:app\n\nworkers: many\n", ["mgr.yaml:3", "workers", "many"]),
    "an_unknown_key": ("app: main:app\nkeepalive: 5\n", ["mgr.yaml:2", "keepalive", "keep_alive"]),
    "a_duplicate_key": ("app: a:b\nworkers: 1\nworkers: 2\n", ["mgr.yaml:3", "workers"]),
    "a_null": ("workers:\napp: main:app\n", ["mgr.yaml:1", "workers"]),
    "a_second_document": ("app: main:app\n---\nworkers: 2\n", ["mgr.yaml"]),
    "a_root_that_is_a_list": ("- app\n", ["mgr.yaml:1"]),
    "out_of_range": ("workers: 513\n", ["mgr.yaml:1", "workers", "513", "512"]),
    "a_bad_duration": ("keep_alive: 5 minutes\n", ["mgr.yaml:1", "keep_alive", "5 minutes"]),
    "a_bad_size": ("limit_body: 1q\n", ["mgr.yaml:1", "limit_body", "1q"]),
    "a_later_setting": ("tls_cert: x\n", ["mgr.yaml:1", "tls_cert"]),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_bad_configuration_is_named_with_file_and_line(tmp_path, name):
    text, words = CONFIGURATIONS[name]
    (tmp_path / "mgr.yaml").write_text(text)
    for command in ("run", "check", "config"):
        done = mgr_command(tmp_path, command, "-c", "mgr.yaml")
        assert done.returncode == 78, (command, done.stderr)
        one_line(done, *words)


def test_a_missing_configuration_file_is_named(tmp_path):
    done = mgr_command(tmp_path, "run", "-c", "nowhere.yaml")
    assert done.returncode == 78
    one_line(done, "nowhere.yaml")


def test_bad_flags_are_named(tmp_path):
    for flags, words in ((["--workers", "many"], ["workers", "many"]),
                         (["--keep-aliv", "5"], ["keep-aliv"]),
                         (["--keep-alive", "soon"], ["soon"])):
        done = mgr_command(tmp_path, "run", "main:app", *flags)
        assert done.returncode in (2, 78), done.stderr
        one_line(done, *words)


def test_a_bad_environment_variable_is_named(tmp_path):
    done = mgr_command(tmp_path, "run", "main:app", MGR_WORKERS="many")
    assert done.returncode == 78
    one_line(done, "MGR_WORKERS", "many")


def test_an_unknown_environment_variable_is_only_a_warning(make_mgr):
    mgr = make_mgr("echo", workers=1, env={"MGR_SERVICE_HOST": "10.0.0.1"}).start()
    assert "MGR_SERVICE_HOST" in mgr.log


def test_no_application_is_a_clear_error(tmp_path):
    done = mgr_command(tmp_path, "run")
    assert done.returncode in (2, 78)
    one_line(done, "app")


def test_an_unknown_command_is_a_usage_error(tmp_path):
    done = mgr_command(tmp_path, "frobnicate")
    assert done.returncode == 2
    one_line(done, "frobnicate")


@pytest.mark.parametrize("command", ["status", "ready", "reload", "restart", "stop", "scale"])
def test_commands_without_a_supervisor_say_so(tmp_path, command):
    arguments = ["2"] if command == "scale" else []
    done = mgr_command(tmp_path, command, *arguments, "--control", str(tmp_path / "none.sock"))
    assert done.returncode == 1
    one_line(done, str(tmp_path / "none.sock"))


def test_commands_with_several_supervisors_list_them(make_mgr, tmp_path):
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
    for name in ("blue", "green"):
        mgr = make_mgr("echo", workers=1, name=name, env=runtime, control=None)
        mgr.control = tmp_path / "mgr" / f"{name}.sock"
        mgr.start()
    done = mgr_command(tmp_path, "status")
    assert done.returncode == 1
    assert "-i" in done.stderr and "blue" in done.stderr and "green" in done.stderr
    chosen = mgr_command(tmp_path, "status", "--json", "-i", "green")
    assert chosen.returncode == 0 and '"green"' in chosen.stdout


def test_an_interpreter_that_does_not_exist_is_named(make_mgr):
    status, lines = run_to_end(make_mgr("echo", workers=1, python="/nowhere/python3"))
    assert status in (4, 78) and "/nowhere/python3" in lines[-1], lines


def test_a_module_that_does_not_exist_is_named(make_mgr):
    status, lines = run_to_end(make_mgr("echo", workers=1, target="nowhere:app"))
    assert status == 4 and "nowhere" in lines[-1], lines


def test_check_tells_the_same_without_serving(make_mgr):
    mgr = make_mgr("echo")
    arguments = ["check", "main:app", "--python", "/usr/bin/python3"]

    def check():
        return subprocess.run([MGR, *arguments], cwd=mgr.directory, env=mgr.environment,
                              capture_output=True, text=True, timeout=30)

    assert check().returncode == 0
    mgr.deploy_text("def broken(:\n")
    done = check()
    assert done.returncode == 4 and "SyntaxError" in done.stdout + done.stderr


def test_the_same_port_can_be_used_again_at_once(make_mgr):
    address = f"127.0.0.1:{free_port()}"
    for _ in range(2):
        mgr = make_mgr("echo", workers=2, bind=address).start()
        for _ in range(10):
            assert mgr.get("/x")[0] == 200
        mgr.must("stop")
        assert mgr.wait_exit() == 0
        wait_for(lambda: not mgr.control.exists(), "the control socket is removed", 5)
