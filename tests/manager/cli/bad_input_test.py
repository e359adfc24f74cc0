"""Bad input that needs no supervisor, to the real program: one clear line, and the exit status of the
contract. Argument: the program."""

import os
import subprocess
import sys
import tempfile

ENVIRONMENT = {key: value for key, value in os.environ.items()
               if not key.startswith("MGR_") and key not in ("WEB_CONCURRENCY", "PORT")}

# Arguments, what mgr.yaml holds (or None), variables, exit status, words of the line.
CASES = [
    ([], None, {}, 2, ["command"]),
    (["frobnicate"], None, {}, 2, ["frobnicate"]),
    (["run"], None, {}, 2, ["application"]),
    (["run", "--keepalive", "5"], None, {}, 2, ["--keepalive", "--keep-alive"]),
    (["run", "main:app", "--workers"], None, {}, 2, ["--workers"]),
    (["run", "main:app", "other:app"], None, {}, 2, ["other:app"]),
    (["run", "main:app", "--keep-alive", "soon"], None, {}, 78, ["--keep-alive", "soon", "allowed"]),
    (["run", "main:app", "--bind", "8000"], None, {}, 78, ["--bind", "8000", ":port"]),
    (["run", "main:app", "--chdir", "/nowhere"], None, {}, 78, ["chdir", "/nowhere"]),
    (["run", "lib/app.a"], None, {}, 78, ["--app", "lib/app.a", "module"]),
    (["run", "main:app"], None, {"MGR_WORKERS": "many"}, 78, ["MGR_WORKERS", "many"]),
    (["run", "main:app"], None, {"WEB_CONCURRENCY": "x"}, 78, ["WEB_CONCURRENCY", "x"]),
    (["run", "main:app"], None, {"PORT": "http"}, 78, ["PORT", "http"]),
    (["run", "-c", "none.yaml"], None, {}, 78, ["none.yaml", "No such file"]),
    (["run"], "workers: 2\n", {}, 78, ["mgr.yaml", "app"]),
    (["check"], "app: a\nworkers: 0\n", {}, 78, ["mgr.yaml:2", "workers", "0", "512"]),
    (["check"], "app: a\n\tworkers: 1\n", {}, 78, ["mgr.yaml:2", "tab"]),
    (["check"], "app: a\nworker: 1\n", {}, 78, ["mgr.yaml:2", "worker", "workers"]),
    (["check"], "app: a\napp: b\n", {}, 78, ["mgr.yaml:2", "app", "twice"]),
    (["check"], "workers:\napp: a\n", {}, 78, ["mgr.yaml:1", "workers"]),
    (["check"], "app: a\n---\napp: b\n", {}, 78, ["mgr.yaml:3", "document"]),
    (["check"], "- app\n", {}, 78, ["mgr.yaml:1", "map"]),
    (["config"], "statsd_host: x\n", {}, 78, ["mgr.yaml:1", "statsd_host"]),
    (["config"], "balance: least\n", {}, 78, ["mgr.yaml:1", "balance", "least", "random"]),
    (["config", "--json", "--schema"], None, {}, 2, ["--json", "--schema"]),
    (["scale", "0"], None, {}, 2, ["0", "512"]),
    (["scale", "513"], None, {}, 2, ["513"]),
    (["scale", "abc"], None, {}, 2, ["abc"]),
    (["scale", "+"], None, {}, 2, ["+"]),
    (["scale"], None, {}, 2, ["NUMBER"]),
    (["scale", "-99", "--control", "/nowhere/c.sock"], None, {}, 1, ["/nowhere/c.sock"]),
    (["restart", "x"], None, {}, 2, ["x"]),
    (["import"], None, {}, 2, ["FILE"]),
    (["import", "none.py"], None, {}, 2, ["none.py", "No such file"]),
    (["import", "--", "flask", "run"], None, {}, 2, ["flask", "gunicorn"]),
    (["status", "-i", "nobody-is-called-so"], None, {}, 1, ["nobody-is-called-so"]),
    (["status", "--control", "/nowhere/c.sock"], None, {}, 1, ["/nowhere/c.sock"]),
    (["stop"], None, {"MGR_CONTROL": "/nowhere/d.sock"}, 1, ["/nowhere/d.sock"]),
]


def check(program, case):
    arguments, text, variables, status, words = case
    with tempfile.TemporaryDirectory() as directory:
        if text is not None:
            with open(os.path.join(directory, "mgr.yaml"), "w", encoding="utf-8") as file:
                file.write(text)
        own = {"XDG_RUNTIME_DIR": directory, "RUNTIME_DIRECTORY": directory}
        done = subprocess.run([program, *arguments], cwd=directory, timeout=30, capture_output=True,
                              text=True, env=ENVIRONMENT | own | variables)
    lines = done.stderr.splitlines()
    problems = [f"no {word!r} in {done.stderr!r}" for word in words if word not in done.stderr]
    if done.returncode != status:
        problems.append(f"exit status {done.returncode}, not {status}: {done.stderr!r}")
    if len(lines) != 1:
        problems.append(f"{len(lines)} lines: {done.stderr!r}")
    return problems


def main(program):
    failed = 0
    for case in CASES:
        for problem in check(program, case):
            failed += 1
            print(f"mgr {' '.join(case[0])}: {problem}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1])
