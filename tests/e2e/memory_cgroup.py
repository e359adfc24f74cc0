"""A memory cgroup of version 1 or 2 with a limit, for one process tree. Needs root."""

import contextlib
import uuid
from pathlib import Path


def _own_directories():
    """(version, directory) of this process's memory cgroup, and of those above it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = Path("/sys/fs/cgroup") / controllers
        for directory in (base / path.lstrip("/"), base):
            yield (1 if controllers else 2), directory


def _limit(version, directory, limit):
    names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"] if version == 1 else ["memory.max"]
    (directory / names[0]).write_text(str(limit))
    for name in names[1:]:
        with contextlib.suppress(OSError):  # without swap accounting
            (directory / name).write_text(str(limit))
    if version == 2:
        with contextlib.suppress(OSError):
            (directory / "memory.swap.max").write_text("0")


class MemoryCgroup:
    """`prefix` puts a command into it. `made` is false where none can be made here."""

    def __init__(self, limit):
        self.made = False
        for version, parent in _own_directories():
            self.directory = parent / f"mgr-test-{uuid.uuid4().hex[:8]}"
            try:
                self.directory.mkdir()
                _limit(version, self.directory, limit)
            except OSError:
                with contextlib.suppress(OSError):
                    self.directory.rmdir()
                continue
            self.made = True
            return

    @property
    def prefix(self):
        return ["sh", "-c", f'echo $$ > {self.directory}/cgroup.procs && exec "$0" "$@"']

    def remove(self):
        if self.made:
            self.directory.rmdir()
