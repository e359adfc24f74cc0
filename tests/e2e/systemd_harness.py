"""A Debian that is booted with systemd as its first process, in namespaces of its own.

The tree is a copy, and ends with the test: with the process that unshare(1) started, the kernel
ends every process of the namespace. The network is shared, so that clients reach what runs inside,
or it is a namespace of its own, where every port is free.
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from mgr_harness import APPS, ROOT, alive, free_port, wait_for

PREFIX = "/usr/local"
NAMESPACES = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--cgroup"]
PATH = f"{PREFIX}/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1

# $1: the tree. Runs as the first process of its namespaces, and becomes systemd.
BOOT = r"""
set -eu
root=$1
hostname mgr-test
ip link set lo up
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for directory in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$directory"; done
chmod 1777 "$root/tmp"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
cd "$root"
exec env -i container=mgr-test PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
  chroot . /lib/systemd/systemd
"""


def libraries_packages(program):
    """The Debian packages of the shared libraries that a program needs."""
    text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    packages = set()
    for library in re.findall(r"=> (/\S+)", text):
        owner = subprocess.run(["dpkg-query", "-S", f"*/{Path(library).name}"], capture_output=True,
                               text=True)
        if owner.returncode == 0:
            packages.add(owner.stdout.split(":")[0])
    return sorted(packages)


def debian_tree():
    """The tree with systemd and what the README uses, made once; skips where it can't be made."""
    tree = Path(os.environ.get("DEBIAN_TREE", "/tmp/mgr-debian-tree") + "-systemd")
    done = subprocess.run([ROOT / "tests/tools/debian_tree", tree, "systemd", "dbus", "python3",
                           "python3-fastapi", "nginx", "curl", "iproute2",
                           *libraries_packages(os.environ["MGR_BIN"])],
                          capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return tree


def cgroup2_mount():
    """Where this machine has a cgroup2 hierarchy that we may write; None: nowhere."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, kind = line.split(" - ")
        if kind.startswith("cgroup2 ") and os.access(fields.split()[4], os.W_OK):
            return Path(fields.split()[4])
    return None


def install(tree):
    """`cmake --install` into the tree, under PREFIX."""
    done = subprocess.run(["cmake", "--install", os.environ["BUILD_DIR"], "--prefix", PREFIX],
                          env=os.environ | {"DESTDIR": str(tree)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


class Booted:
    """The booted system. Everything is done inside by run() and systemctl()."""

    def __init__(self, directory, own_network=False):
        self.namespaces = [*NAMESPACES, *(["--net"] if own_network else [])]
        self.root = directory / "root"
        self.cgroup = None
        self.process = None
        self.init = None

    def boot(self):
        hierarchy = cgroup2_mount()
        if hierarchy is None:
            pytest.skip("no cgroup2 hierarchy that can be written is mounted here")
        tried = subprocess.run([*self.namespaces, "mount", "--make-rprivate", "/"], capture_output=True,
                               text=True)
        if tried.returncode != 0:
            pytest.skip(f"no namespaces can be made here: {tried.stderr.strip()}")
        subprocess.run(["cp", "-a", "--reflink=auto", debian_tree(), self.root], check=True)
        install(self.root)
        self.cgroup = hierarchy / f"mgr-test-{os.getpid()}"
        self.cgroup.mkdir()

        def enter():
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))

        self.console = open(self.root.parent / "console", "wb")
        self.process = subprocess.Popen(
            [*self.namespaces, "sh", "-c", BOOT, "boot", self.root], preexec_fn=enter,
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=self.console)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.init = int(wait_for(lambda: children.read_text().strip(), "unshare has forked"))
        wait_for(self.is_up, "systemd is up", 60, period=0.2)
        return self

    def is_up(self):
        assert self.process.poll() is None, Path(self.console.name).read_text()
        state = self.systemctl("is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def end(self):
        """Kills the first process, and with it all; nothing of it may be left."""
        pids = self.processes()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.init, signal.SIGKILL)
            self.process.wait(timeout=20)
            self.console.close()
        if self.cgroup is not None:
            for directory, _, _ in os.walk(self.cgroup, topdown=False):
                wait_for(lambda: not Path(directory, "cgroup.procs").read_text(), "cgroup is empty")
                os.rmdir(directory)
        assert not [pid for pid in pids if alive(pid)]
        assert str(self.root) not in Path("/proc/mounts").read_text()
        shutil.rmtree(self.root, ignore_errors=True)

    def processes(self):
        """Pids, as seen from here, of every process inside."""
        if self.cgroup is None:
            return []
        return [int(pid) for directory, _, _ in os.walk(self.cgroup)
                for pid in Path(directory, "cgroup.procs").read_text().split()]

    # ---- commands inside

    def enter(self, *command):
        return ["nsenter", "-t", str(self.init), "--all", "--root", "--wd", "--", "env", "-i",
                f"PATH={PATH}", "LANG=C.UTF-8", *map(str, command)]

    def run(self, *command, check=True, seconds=120):
        done = subprocess.run(self.enter(*command), capture_output=True, text=True, timeout=seconds,
                              stdin=subprocess.DEVNULL)
        if check:
            assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def systemctl(self, *arguments, check=True, seconds=120):
        return self.run("systemctl", *arguments, check=check, seconds=seconds)

    def spawn(self, *command):
        return subprocess.Popen(self.enter(*command), stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def path(self, name):
        return self.root / name.lstrip("/")

    def write(self, name, text):
        """A file of the tree (not of /run or /tmp, which are mounted over)."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        new.write_text(text)
        new.rename(path)

    def journal(self, *arguments):
        """Entries of the journal, oldest first, as dictionaries."""
        self.run("journalctl", "--sync")
        out = self.run("journalctl", "-o", "json", "--no-pager", *arguments).stdout
        return [json.loads(line) for line in out.splitlines()]


class Instance:
    """mgr@NAME: its configuration, application and unit."""

    def __init__(self, system, name, app="echo", **settings):
        self.system, self.name, self.port = system, name, free_port()
        self.unit = f"mgr@{name}"
        self.deploy_text((APPS / f"{app}.py").read_text())
        self.configure(**settings)

    def configure(self, **settings):
        values = {"app": "main:app", "chdir": f"/srv/{self.name}", "workers": 2,
                  "min_ready": "200ms", "bind": [f"127.0.0.1:{self.port}"], **settings}
        text = json.dumps({key: value for key, value in values.items() if value is not None})
        self.system.write(f"/etc/mgr/{self.name}.yaml", text)

    def deploy_text(self, text):
        self.system.write(f"/srv/{self.name}/main.py", text)

    def drop_in(self, text, kind="service"):
        """What `systemctl edit` writes; an empty text takes it away."""
        self.system.write(f"/etc/systemd/system/{self.unit}.{kind}.d/override.conf", text)
        self.system.systemctl("daemon-reload")

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def systemctl(self, verb, **options):
        return self.system.systemctl(verb, self.unit, **options)

    def show(self, name):
        return self.system.systemctl("show", "-P", name, self.unit).stdout.strip()

    def mgr(self, command, *arguments, check=True):
        """What root types: `mgr COMMAND -i NAME`."""
        return self.system.run("mgr", command, *arguments, "-i", self.name, check=check)

    def status(self):
        return json.loads(self.mgr("status", "--json").stdout)

    def outside(self, pid):
        """The number that this process of the booted system has here."""
        for candidate in self.system.processes():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{candidate}/status").read_text()
                if re.search(r"^NSpid:.*\t(\d+)$", status, re.MULTILINE)[1] == str(pid):
                    return candidate
        raise AssertionError(f"no process {pid} inside")

    def children(self):
        """Pids here of every process of the unit but the supervisor."""
        group = self.show("ControlGroup").lstrip("/")
        pids = (self.system.cgroup / group / "cgroup.procs").read_text().split()
        supervisor = self.outside(int(self.show("MainPID")))
        return [int(pid) for pid in pids if int(pid) != supervisor]

    def journal(self, *arguments):
        return self.system.journal("-u", self.unit, *arguments)
