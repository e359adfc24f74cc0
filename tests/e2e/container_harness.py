"""Images that buildah makes from a debootstrap tree, run by podman; no daemon, no registry.

Everything of both stays below $CONTAINER_STORAGE.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from mgr_harness import ROOT, read_response, wait_for

STORAGE = Path(os.environ.get("CONTAINER_STORAGE", ROOT / "build/containers"))
BASE = "localhost/debian-base"
TARGETS = ("python", "native", "sdk")
# What an image of Debian leaves out, and what is this machine's alone.
NOT_IN_BASE = ["./var/cache/apt/archives/*.deb", "./var/lib/apt/lists/*", "./usr/share/doc/*",
               "./usr/share/man/*", "./usr/share/locale/*", "./.complete"]
INPUTS = ["CMakeLists.txt", "common", "manager", "worker", "tests/tools/packages.sh",
          ".dockerignore", "deploy/docker/Dockerfile"]

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def store():
    return ["--storage-driver", "vfs", "--root", STORAGE / "root", "--runroot", STORAGE / "run"]


def run(command, check=True, seconds=600, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          timeout=seconds, **options)
    if check:
        said = (done.stdout + done.stderr)[-4000:]
        assert done.returncode == 0, f"{command}: {done.returncode}\n{said}"
    return done


def buildah(*arguments, **options):
    return run(["buildah", *store(), *arguments], **options)


def podman(*arguments, **options):
    return run(["podman", *store(), "--tmpdir", STORAGE / "tmp", "--cgroup-manager", "cgroupfs",
                "--events-backend", "none", "--runtime", "runc", *arguments], **options)


def skip_unless_possible():
    if os.geteuid() != 0:
        pytest.skip("containers: needs root")
    for program in ("buildah", "podman", "runc"):
        if shutil.which(program) is None:
            pytest.skip(f"containers: {program} is not installed")


def skip_unless_runnable(image):
    """What stands against it is this machine, not the image: `true` is all that would run."""
    done = podman("run", "--rm", "--network", "none", *limits(), image, "true", check=False)
    if done.returncode != 0:
        pytest.skip(f"containers: podman can't run one here: {done.stderr.strip()[-300:]}")


def limits():
    """Podman's own are higher than a machine without CAP_SYS_RESOURCE allows."""
    flags = []
    for name, which in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        soft, hard = resource.getrlimit(which)
        flags += ["--ulimit", f"{name}={min(soft, hard, 4096)}:{min(hard, 4096)}"]
    return flags


def exists(image):
    return buildah("inspect", "--type", "image", image, check=False).returncode == 0


# ---- images


def make_base():
    """The debootstrap tree that the tests share, as an image like debian:bookworm-slim."""
    if exists(BASE):
        return
    tree = os.environ.get("DEBIAN_TREE", STORAGE / "debian-tree")
    made = run([ROOT / "tests/tools/debian_tree", tree], check=False)
    if made.returncode == 77:
        pytest.skip(made.stderr.strip())
    assert made.returncode == 0, made.stderr
    container = buildah("from", "scratch").stdout.strip()
    target = buildah("mount", container).stdout.strip()
    excluded = [f"--exclude={pattern}" for pattern in NOT_IN_BASE]
    pack = ["tar", "-C", tree, *excluded, "-cf", "-", "."]
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as packing:
        subprocess.run(["tar", "-C", target, "-xf", "-"], stdin=packing.stdout, check=True)
    assert packing.returncode == 0
    buildah("umount", container)
    buildah("commit", "--rm", container, BASE)


def digest_of_inputs():
    """Of all that the Dockerfile builds from."""
    digest = hashlib.sha256()
    for name in INPUTS:
        top = ROOT / name
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md":
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def image(target):
    return f"localhost/mgr:{target}"


def make_images():
    """mgr:TARGET for all targets of the shipped Dockerfile; minutes, unless an earlier run left the same."""
    kept = {target: f"localhost/mgr-built:{target}-{digest_of_inputs()}" for target in TARGETS}
    if not all(exists(name) for name in kept.values()):
        buildah("rm", "--all")  # of a run that was interrupted
        make_base()
        older = [line for line in buildah("images", "--format", "{{.Name}}:{{.Tag}}").stdout.split()
                 if line.startswith("localhost/mgr-built:")]
        for name in older:
            buildah("rmi", name, check=False)
        for target, name in kept.items():
            began = time.monotonic()
            build(ROOT, "--layers", "--build-arg", f"DEBIAN={BASE}", "-f",
                  ROOT / "deploy/docker/Dockerfile", "--target", target, "-t", name)
            print(f"mgr:{target} was built in {time.monotonic() - began:.0f} s")
    for target, name in kept.items():
        buildah("tag", name, image(target))


def build(context, *arguments, seconds=1500):
    return buildah("bud", "--isolation", "chroot", "--format", "docker", "--pull-never", *arguments,
                   context, seconds=seconds, env=os.environ | {"TMPDIR": str(lend_compiler_cache())})


def lend_compiler_cache():
    """The Dockerfile's cache mount is this machine's ccache, so that what was compiled here with the same
    compiler and flags is not compiled again. Returns the folder below which buildah has its mounts."""
    folder = STORAGE / "tmp-of-buildah"
    mount = folder / "buildah-cache" / "mgr-ccache"
    mount.parent.mkdir(parents=True, exist_ok=True)
    if shutil.which("ccache") and not mount.exists():
        cache = Path(run(["ccache", "--get-config", "cache_dir"]).stdout.strip())
        cache.mkdir(parents=True, exist_ok=True)
        mount.symlink_to(cache)
    return folder


# ---- containers


class Container:
    """`podman run` of an image with a read-only root, as deploy/docker/README.md says.

    It has no network but loopback; connect() goes there.
    """

    def __init__(self, image, *options, read_only=("--read-only", "--tmpfs", "/tmp")):
        started = podman("run", "--detach", "--network", "none", "--log-driver", "k8s-file",
                         *limits(), *read_only, *options, image)
        self.id = started.stdout.strip()

    def end(self):
        print(f"---- log of the container\n{self.log[-4000:]}")
        podman("rm", "--force", "--time", "0", self.id)

    def inspect(self, template):
        return podman("inspect", "--format", template, self.id).stdout.strip()

    @property
    def pid(self):
        """Of the container's process 1, as this machine sees it."""
        return int(self.inspect("{{.State.Pid}}"))

    @property
    def log(self):
        done = podman("logs", self.id)
        return done.stdout + done.stderr

    def exec(self, *command, check=True):
        return podman("exec", self.id, *command, check=check)

    def health(self):
        """Exit status of the image's own HEALTHCHECK."""
        return podman("healthcheck", "run", self.id, check=False).returncode

    def wait_ready(self, seconds=60):
        def ready():
            return self.exec("mgr", "ready", check=False).returncode == 0

        wait_for(ready, "ready", seconds, period=0.2)
        return self

    def connect(self, port=8000):
        """A connection to the container's loopback."""
        made = []

        def from_inside():
            with open(f"/proc/{self.pid}/ns/net") as namespace:
                assert _libc.setns(namespace.fileno(), _CLONE_NEWNET) == 0, ctypes.get_errno()
            made.append(socket.create_connection(("127.0.0.1", port), timeout=20))

        # The namespace is this thread's alone, and ends with it; the socket stays there.
        thread = threading.Thread(target=from_inside)
        thread.start()
        thread.join()
        assert made, "no connection to the container"
        return made[0]

    def get(self, path):
        with self.connect() as connection:
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode())
            return read_response(connection)

    def status(self):
        return json.loads(self.exec("mgr", "status", "--json").stdout)

    def processes(self):
        """(pid, uid, name) of all its processes, as this machine sees them."""
        namespace = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{entry}/ns/pid") == namespace:
                    status = Path(f"/proc/{entry}/status").read_text()
                    uid = int(re.search(r"^Uid:\t(\d+)", status, re.MULTILINE)[1])
                    found.append((int(entry), uid, re.search(r"^Name:\t(.*)", status)[1]))
        return found
