"""`mgr import` from outside: real files, real command lines, and the lists of settings that Debian's
Gunicorn and Uvicorn have themselves. What it prints, mgr must take."""

import json
import os
import subprocess

import pytest

MGR = os.environ["MGR_BIN"]
ENVIRONMENT = {key: value for key, value in os.environ.items()
               if not key.startswith("MGR_") and key not in ("WEB_CONCURRENCY", "PORT", "VIRTUAL_ENV")}


def mgr(directory, *arguments, **variables):
    path = {"PATH": "/usr/bin:/bin"}
    return subprocess.run([MGR, *arguments], cwd=directory, env=ENVIRONMENT | path | variables,
                          capture_output=True, text=True, timeout=60)


def effective(directory, text):
    """Values and origins that mgr takes from a file with this text."""
    (directory / "imported.yaml").write_text(text)
    done = mgr(directory, "config", "-c", "imported.yaml", "--json")
    assert done.returncode == 0, done.stderr + text
    return json.loads(done.stdout)


def imported(directory, *arguments, **variables):
    """What `mgr import` prints, and the settings that it means, without those that are defaults."""
    done = mgr(directory, "import", *arguments, **variables)
    assert done.returncode == 0, done.stderr
    values = effective(directory, done.stdout)
    return done.stdout, {name: entry["value"] for name, entry in values.items()
                         if entry["origin"] != "default"}


def refused(directory, *arguments, **variables):
    done = mgr(directory, "import", *arguments, **variables)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


FILE = """
import multiprocessing
import os

wsgi_app = "main:app"
bind = [f"0.0.0.0:{2 * 4500}", "unix:/run/shop.sock"]
workers = len(os.listdir("/dev/fd")) * 0 + 5
worker_class = "uvicorn.workers.UvicornWorker"
graceful_timeout = 45
keepalive = 75
max_requests = 1000
worker_tmp_dir = "/dev/shm"
accesslog = "-"
loglevel = "debug"
raw_env = ["STAGE=test", "TOKEN=a=b"]

def on_starting(server):
    print("never")

def post_fork(server, worker):
    server.log.info("forked")
"""


def test_a_file_is_executed_and_becomes_settings_and_comments(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text(FILE)
    text, values = imported(tmp_path, "gunicorn.conf.py")
    assert values == {"app": "main:app", "bind": ["0.0.0.0:9000", "unix:/run/shop.sock"], "workers": 5,
                      "graceful_timeout": "45s", "keep_alive": "75s", "max_requests": 1000,
                      "access_log": "-", "log_level": "debug", "socket_mode": "0777",
                      "env": {"STAGE": "test", "TOKEN": "a=b"}}
    for word in ("worker_class", "worker_tmp_dir", "function on_starting", "function post_fork"):
        assert word in text, text


def test_mgr_check_takes_what_was_imported(tmp_path):
    (tmp_path / "main.py").write_text("def app(environ, start_response): return []\n")
    text, _ = imported(tmp_path, "--", "gunicorn", "main:app", "-w", "2")
    (tmp_path / "mgr.yaml").write_text(text)
    done = mgr(tmp_path, "check", "-c", "mgr.yaml")
    assert done.returncode == 0, done.stderr


def test_a_command_line_of_gunicorn(tmp_path):
    text, values = imported(tmp_path, "--", "gunicorn", "main:app", "-w", "4", "-k",
                            "uvicorn.workers.UvicornWorker", "--graceful-timeout", "60",
                            "--worker-tmp-dir", "/dev/shm")
    assert values == {"app": "main:app", "workers": 4, "graceful_timeout": "1m"}
    assert "UvicornWorker" in text and "/dev/shm" in text


def test_a_command_line_of_gunicorn_wins_over_variable_and_file(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text("workers = 2\nbacklog = 7\nkeepalive = 9\nthreads = 3\n")
    _, values = imported(tmp_path, "--", "gunicorn", "main:app", "--workers=4",
                         GUNICORN_CMD_ARGS="--keep-alive 8 --workers 3")
    assert values == {"app": "main:app", "workers": 4, "backlog": 7, "keep_alive": "8s", "threads": 3}
    (tmp_path / "other.py").write_text("threads = 6\n")
    _, values = imported(tmp_path, "--", "/usr/bin/python3", "-m", "gunicorn", "-c", "other.py", "main:app")
    assert values == {"app": "main:app", "workers": 1, "threads": 6, "python": "/usr/bin/python3"}


def test_a_command_line_of_uvicorn(tmp_path):
    _, values = imported(tmp_path, "--", "uvicorn", "main:app", "--port", "9000", "--proxy-headers",
                         "--no-access-log", "--timeout-keep-alive", "65")
    assert values == {"app": "main:app", "bind": ["127.0.0.1:9000"], "forwarded": "x-forwarded",
                      "workers": 1, "access_log": "off", "keep_alive": "65s",
                      "graceful_timeout": "30s"}
    _, values = imported(tmp_path, "--", "python", "-m", "uvicorn", "main:make", "--factory", "--uds",
                         "/run/a.sock", "--workers", "3")
    assert values == {"app": "main:make()", "bind": ["unix:/run/a.sock"], "workers": 3,
                      "access_log": "-", "socket_mode": "0666", "graceful_timeout": "30s"}
    text, values = imported(tmp_path, "--", "exec uvicorn main:app --host 0.0.0.0", UVICORN_PORT="9001",
                            UVICORN_HOST="127.0.0.9", UVICORN_WORKERS="2")
    assert values["bind"] == ["0.0.0.0:9001"] and values["workers"] == 2 and "'exec', before Uvicorn" in text


def test_a_toml_file_of_hypercorn_and_a_command_line_of_granian(tmp_path):
    (tmp_path / "hypercorn.toml").write_text('bind = ["0.0.0.0:9000"]\nworkers = 3\nquic_bind = ["x:1"]\n')
    text, values = imported(tmp_path, "hypercorn.toml")
    assert values == {"bind": ["0.0.0.0:9000"], "workers": 3} and "quic_bind" in text
    _, values = imported(tmp_path, "--", "hypercorn", "-c", "hypercorn.toml", "main:app", "--workers", "2")
    assert values == {"app": "main:app", "bind": ["0.0.0.0:9000"], "workers": 2}
    _, values = imported(tmp_path, "--", "granian", "--interface", "asgi", "main:app", "--port", "9000")
    assert values == {"app": "main:app", "interface": "asgi", "bind": ["127.0.0.1:9000"], "workers": 1}


def python(program):
    done = subprocess.run(["/usr/bin/python3", "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_every_setting_of_debians_gunicorn_is_known_with_its_default(tmp_path):
    known = python("import json\nfrom gunicorn.config import KNOWN_SETTINGS\n"
                   "print(json.dumps([[s.name, s.cli or []] for s in KNOWN_SETTINGS]))")
    assert len(known) > 80
    (tmp_path / "conf.py").write_text(
        "from gunicorn.config import KNOWN_SETTINGS\n"
        "globals().update({s.name: s.default for s in KNOWN_SETTINGS})\n")
    text, _ = imported(tmp_path, "conf.py")
    words = " ".join(text.replace("\n#", "").split())  # without the breaks of lines
    missing = [name for name, _ in known if f"{name} = " not in words]
    assert not missing, text


def test_every_flag_of_debians_gunicorn_is_known(tmp_path):
    flags = python("import json\nfrom gunicorn.config import KNOWN_SETTINGS\n"
                   "print(json.dumps([[f, getattr(s, 'action', None) in ('store_true', 'store_const')]"
                   " for s in KNOWN_SETTINGS for f in s.cli or [] if s.name != 'config']))")
    for flag, is_switch in flags:
        arguments = [flag] if is_switch or flag == "--proxy-protocol" else [flag, "1"]
        text, _ = imported(tmp_path, "--", "gunicorn", "main:app", *arguments)
        assert text


def test_every_option_of_debians_uvicorn_is_known(tmp_path):
    options = python("import json\nfrom uvicorn.main import main\n"
                     "print(json.dumps([[p.opts + p.secondary_opts, p.is_flag] for p in main.params"
                     " if p.opts[0].startswith('--') and p.name != 'version']))")
    assert len(options) > 40
    for names, is_switch in options:
        for name in names:
            text, _ = imported(tmp_path, "--", "uvicorn", "main:app", *([name] if is_switch else [name, "1"]))
            assert name.removeprefix("--no-").lstrip("-").replace("-", "_") + " = " in text


@pytest.mark.parametrize("arguments, words", [
    (["none.py"], ["none.py", "No such file"]),
    (["bad.py"], ["bad.py", "line 2", "NameError", "nonsense"]),
    ([], ["FILE", "--"]),
    (["bad.py", "--", "gunicorn"], ["FILE", "exclude"]),
    (["--"], ["gunicorn"]),
    (["--", "daphne", "main:app"], ["daphne", "gunicorn", "uvicorn"]),
    (["--", "gunicorn", "--nope"], ["--nope", "Gunicorn"]),
    (["--", "uvicorn", "main:app", "--port"], ["--port", "value"]),
    (["--", "gunicorn", "-c", "bad.py", "main:app"], ["bad.py", "line 2"]),
    (["--nope"], ["--nope"]),
])
def test_what_can_not_be_read_is_one_line_and_status_2(tmp_path, arguments, words):
    (tmp_path / "bad.py").write_text("workers = 1\nthreads = nonsense\n")
    line = refused(tmp_path, *arguments)
    for word in words:
        assert word in line


def test_an_interpreter_that_is_not_there_is_named(tmp_path):
    (tmp_path / "conf.py").write_text("workers = 1\n")
    assert "/nowhere/bin/python3" in refused(tmp_path, "conf.py", VIRTUAL_ENV="/nowhere")
    assert "/nowhere/python" in refused(tmp_path, "conf.py", MGR_PYTHON="/nowhere/python")
    assert imported(tmp_path, "conf.py", MGR_PYTHON="/usr/bin/python3", VIRTUAL_ENV="/nowhere")
