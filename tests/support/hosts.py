"""Hosts of a network of their own, on this machine: each with its address, processes, name and Ray folder.

Made of Linux namespaces; whoever uses it must be in a network namespace of its own already (`make test` sees to that),
so that nothing outside is touched and everything ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

HERE = "10.77.0.254"
"""Where the hosts reach the process that made them."""

UNSHARE = "/usr/bin/unshare"
BRIDGE = "hosts"
BRIDGE_MAC = "02:00:00:00:00:fe"
"""A bridge without one of its own takes a host's: once that is off, others send to nobody, for up to a minute."""
RAY_FOLDER = Path("/tmp/ray")  # noqa: S108 - Ray's own
READY_LIMIT_S = 90
STOP_LIMIT_S = 10

REAPER = "trap : TERM; while :; do sleep 3600 & wait; done"
"""A host's first process must reap what its children leave, or a cut-off node goes on answering (Ray 2.60)."""


def run(*command: str, environment: Mapping[str, str] | None = None, limit_s: float = READY_LIMIT_S) -> str:
    """Run a command to its end and give what it printed.

    Raises:
        AssertionError: it failed; with what it printed.
    """
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit_s
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


class Host:
    """A machine in the network; `power_off` takes it away at once, `pull_cable` leaves it running and alone."""

    def __init__(self, name: str, number: int, folder: Path) -> None:
        self.name = name
        self.address = f"10.77.0.{number}"
        self._cable = f"cable{number}"
        self._folder = folder
        self.unplugged = False
        folder.mkdir()
        self.power_on()

    def power_on(self) -> None:
        """Start it, with nothing running on it; what an earlier life wrote to its folder is there."""
        life = f"mount -t tmpfs shm /dev/shm; mount --bind {self._folder} {RAY_FOLDER}; hostname {self.name}; {REAPER}"
        starting = [UNSHARE, "-nmpuif", "--kill-child", "--mount-proc", "bash", "-ec", life]
        self._process = subprocess.Popen(starting, start_new_session=True)
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        while not (first := children.read_text().split()):
            pass
        self._first_pid = int(first[0])
        while os.readlink(f"/proc/{self._first_pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            pass
        run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", str(self._first_pid))
        run("ip", "link", "set", self._cable, "master", BRIDGE, "up")
        for command in ("link set lo up", f"addr add {self.address}/24 dev eth0", "link set eth0 up"):
            run(*self.inside("ip", *command.split()))

    def inside(self, *command: str) -> tuple[str, ...]:
        """Give the command that runs a command on this host."""
        return ("nsenter", "-t", str(self._first_pid), "-n", "-m", "-p", "-u", "-i", *command)

    def power_off(self) -> None:
        """End everything on it at once."""
        os.kill(self._first_pid, signal.SIGKILL)
        self._process.wait(STOP_LIMIT_S)

    def pull_cable(self) -> None:
        """Cut it off; what runs on it goes on."""
        self.unplugged = True
        run("ip", "link", "set", self._cable, "down")

    def plug_in(self) -> None:
        """Undo `pull_cable`."""
        self.unplugged = False
        run("ip", "link", "set", self._cable, "up")

    def runs(self, program: str) -> bool:
        """Tell whether a program runs on it."""
        found = subprocess.run(self.inside("pgrep", "-x", program), stdout=subprocess.DEVNULL).returncode
        assert found in (0, 1), "pgrep could not look"
        return found == 0

    def close(self) -> None:
        """Take it away, if it is still there."""
        if self._process.poll() is None:
            self.power_off()


class Hosts:
    """A Ray cluster on hosts: `with Hosts(folder, environment) as hosts: hosts.add(cpus=0, gpus=[0])`.

    Args:
        folder: short, for Ray's sockets; every host gets a folder of its own in it.
        environment: of every Ray process.
        the_heads: what the head's has besides.
        names: of the process that made them, as the hosts know it.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], the_heads: Mapping[str, str], names: Sequence[str] = ()
    ) -> None:
        self._folder = folder
        self._environment = environment
        self._the_heads = the_heads
        self._names = names
        self._started: list[subprocess.Popen[bytes]] = []
        self.hosts: list[Host] = []

    def __enter__(self) -> Self:
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", BRIDGE, "address", BRIDGE_MAC, "type", "bridge")
        run("ip", "addr", "add", f"{HERE}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        # Looking names up would take Ray 20 s of waiting for nobody: an own hosts file, and no server to ask.
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        names, servers = self._folder / "hosts", self._folder / "resolv.conf"
        names.write_text(f"127.0.0.1 localhost\n{HERE} {' '.join(self._names)}\n")
        servers.write_text("")
        RAY_FOLDER.mkdir(exist_ok=True)
        run("mount", "--bind", str(names), "/etc/hosts")
        run("mount", "--bind", str(servers), "/etc/resolv.conf")
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.close()
        for process in self._started:
            process.wait(STOP_LIMIT_S)

    def add(self, *, cpus: int, gpus: Sequence[int]) -> list[Host]:
        """Start a host for each number of GPUs, and Ray on it; the very first is the head."""
        added = []
        for count in gpus:
            number = len(self.hosts) + 1
            host = Host(f"host{number}", number, self._folder / f"host{number}")
            self.hosts.append(host)
            self.start_ray(host, cpus=cpus, gpus=count)
            added.append(host)
        return added

    def start_ray(self, host: Host, *, cpus: int, gpus: int) -> None:
        """Start Ray on a host where it does not run, and do not wait for it: `ray start` hung once (Ray 2.60)."""
        head = host is self.hosts[0]
        place = ("--head", "--port=6379", "--dashboard-host=0.0.0.0") if head else ("--address=10.77.0.1:6379",)
        with (self._folder / f"{host.name}.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *host.inside(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *place),
                    *(f"--node-ip-address={host.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"),
                    "--object-store-memory=100000000",
                ],
                env={**self._environment, **(self._the_heads if head else {})},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._started.append(process)
