"""A Slurm cluster of one node, on this machine: run as a script, it serves until its standard input ends, however that ended.

No user but this one is known to it, no port but of loopback is open, and all its files lie in one folder. It needs Debian's
`slurm-wlm`, but neither munge nor a database. Its GPUs are declared: they are none.
"""

import ctypes
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

DAEMONS = ("slurmctld", "slurmd")
CONTROL = ("slurmctld", "slurmscriptd")
CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
GresTypes=gpu
KillWait=2
MinJobAge=86400
JobRequeue=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={slots} RealMemory=1000000 Gres=gpu:{slots} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def program(name: str) -> str | None:
    """Return the path of a daemon, which may not be on a user's."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


class Node:
    """The cluster, as its user sees it: `environment` leads Slurm's commands to it."""

    def __init__(self, folder: Path, slots: int = 2):
        """Start it in a new folder. slots: jobs of one core at a time."""
        for part in ("state", "spool", "bin"):
            (folder / part).mkdir(parents=True)
        with socket.socket() as one, socket.socket() as other:
            for found in (one, other):
                found.bind(("127.0.0.1", 0))
            ports = [found.getsockname()[1] for found in (one, other)]
        self.host = socket.gethostname().partition(".")[0]
        about = {"host": self.host, "ports": ports, "user": getpass.getuser(), "folder": folder, "slots": slots}
        self.conf = folder / "slurm.conf"
        self.conf.write_text(CONF.format(**about))
        devices = [folder / f"gpu{n}" for n in range(slots)]
        for device in devices:
            device.touch()
        (folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in devices))
        srun = folder / "bin" / "srun"  # Snakemake's plugin takes SLURM_CONF away from it
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.conf} exec {program("srun")} "$@"\n')
        srun.chmod(0o755)
        self.environment = {"SLURM_CONF": str(self.conf), "PATH": f"{srun.parent}:{os.environ['PATH']}"}
        command = [sys.executable, __file__, str(self.conf)]
        self._host = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)

    def says(self, *command: str) -> str:
        """Return the answer of one of Slurm's commands, empty where it fails."""
        done = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    @property
    def state(self) -> str:
        """idle, mixed or allocated where it is ready; down where it failed."""
        return self.says("sinfo", "--noheader", "--format=%T")

    def fail(self) -> None:
        """Kill all of the node but the controller, as a loss of power does."""
        while lost := [p for p in psutil.Process(self._host.pid).children(recursive=True) if p.name() not in CONTROL]:
            for process in lost:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(lost, timeout=1)
        self.says("scontrol", "update", f"NodeName={self.host}", "State=DOWN", "Reason=lost")  # it would notice within minutes

    def start(self) -> None:
        """Start the node again after it failed."""
        self._host.stdin.write("slurmd\n")
        self._host.stdin.flush()

    def stop(self) -> None:
        self._host.stdin.close()
        self._host.wait()


def serve(conf: str) -> None:
    """Run the daemons and adopt what they leave behind; end all of it with standard input. A line names a daemon to start."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: jobs are in sessions of their own
    signal.signal(signal.SIGCHLD, _reap)
    for daemon in DAEMONS:
        _start(daemon, conf)
    for line in sys.stdin:
        _start(line.strip(), conf)
    while left := psutil.Process().children(recursive=True):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.05)


def _reap(*_) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _start(daemon: str, conf: str) -> None:
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen([program(daemon), "-D", "-f", conf], env=os.environ | {"SLURM_CONF": conf}, **quiet)


if __name__ == "__main__":
    serve(sys.argv[1])
