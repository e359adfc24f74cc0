"""The real nginx with the project's site, in front of a Mgr."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from mgr_harness import ROOT, alive, free_port, wait_for

DEPLOY = ROOT / "deploy/nginx"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")

# As Debian's nginx.conf, but everything below the prefix; `user` is for root alone.
MAIN = """
{user}
worker_processes 2;
daemon off;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 1024; }}
http {{
    log_format upstream '$status $upstream_status $request_method $uri';
    access_log access.log upstream;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include sites-enabled/*;
}}
"""


class Nginx:
    """One nginx with mgr-KIND.conf (tcp or unix) as shipped, but for what `changes` replaces."""

    def __init__(self, kind, changes=()):
        # nginx's workers are another user's, and pytest's directories are closed to those.
        self.prefix = Path(tempfile.mkdtemp(prefix="mgr-nginx-"))
        self.prefix.chmod(0o755)
        user = "user www-data;" if os.geteuid() == 0 else ""
        (self.prefix / "nginx.conf").write_text(MAIN.format(user=user))
        for name in ("sites-enabled", "snippets"):
            (self.prefix / name).mkdir()
        site = (DEPLOY / f"mgr-{kind}.conf").read_text()
        snippet = (DEPLOY / "mgr-proxy.conf").read_text()
        for old, new in changes:
            assert (site + snippet).count(old) == 1, f"the site says {old!r} not once"
            site, snippet = site.replace(old, new), snippet.replace(old, new)
        (self.prefix / "sites-enabled" / f"mgr-{kind}.conf").write_text(site)
        (self.prefix / "snippets/mgr-proxy.conf").write_text(snippet)
        self.port = None
        self.process = None

    @classmethod
    def in_front_of(cls, mgr, kind, changes=()):
        """Started, with the site's addresses exchanged for mgr's and a free port."""
        port = free_port()
        own = [("listen 80;", f"listen 127.0.0.1:{port};"), ("    listen [::]:80;\n", "")]
        nginx = cls(kind, [*own, *upstream(mgr, kind), *changes])
        nginx.port = port
        return nginx.start()

    def command(self, *arguments):
        return [NGINX, "-p", str(self.prefix), "-c", str(self.prefix / "nginx.conf"),
                "-e", str(self.prefix / "error.log"), *arguments]

    def test_configuration(self):
        done = subprocess.run(self.command("-t"), capture_output=True, text=True, timeout=20)
        return done.returncode, done.stderr + self.errors

    def start(self):
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL)

        def listens():
            assert self.process.poll() is None, self.errors
            try:
                self.connect().close()
            except ConnectionRefusedError:
                return False
            return True

        wait_for(listens, "nginx listens")
        return self

    def end(self):
        try:
            if self.process is not None:
                for pid in self.workers():
                    os.kill(pid, signal.SIGCONT)
                self.process.terminate()
                self.process.wait(timeout=10)
        finally:
            if self.process is not None and self.process.poll() is None:
                self.process.kill()
            print(f"---- errors of nginx\n{self.errors[-4000:]}")
            shutil.rmtree(self.prefix)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def errors(self):
        log = self.prefix / "error.log"
        return log.read_text() if log.exists() else ""

    def access(self):
        """(status, status of the upstream, method, path) of each request that has been answered."""
        return [line.split() for line in (self.prefix / "access.log").read_text().splitlines()]

    def workers(self):
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if alive(int(child))]

    def connect(self, source="127.0.0.1", seconds=20):
        return socket.create_connection(("127.0.0.1", self.port), seconds, (source, 0))


def upstream(mgr, kind):
    """What the site must say instead of the address of mgr.yaml."""
    if kind == "tcp":
        return [("server 127.0.0.1:8000 ", f"server {mgr.address} ")]
    return [("unix:/run/app/app.sock", mgr.settings["bind"])]


def setting_of(kind, name):
    """The value of a directive that stands once in a shipped site or in the snippet."""
    text = (DEPLOY / f"mgr-{kind}.conf").read_text() + (DEPLOY / "mgr-proxy.conf").read_text()
    values = re.findall(rf"^\s*{name} (\S+);", text, re.MULTILINE)
    assert len(values) == 1, (name, values)
    return values[0]
