"""What the scripts beside this one share: a cluster of processes, each of which can be stopped and started by itself, and tools from
PyPI."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.environ.get("CARGO_TARGET_DIR", f"{ROOT}/target")
READY_WITHIN_S = 60
STOPPED_WITHIN_S = 30


def program():
    """The binary: the script's argument, or the one in the target folder."""
    return sys.argv[1] if len(sys.argv) > 1 else f"{TARGET}/debug/kvorum"


def await_ready(address, process):
    """Waits until what listens at `address` is ready; `process` must not end before."""
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        if process.poll() is not None:
            sys.exit(f"{address}: its process has ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://{address}/health/ready", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                sys.exit(f"{address} is not ready after {READY_WITHIN_S} s")
            time.sleep(0.05)


def install_from_debian(programs, packages):
    """Installs packages of Debian unless all programs are there, without the services that they would start."""
    os.environ["PATH"] += ":/usr/sbin"
    if all(shutil.which(name) for name in programs):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def install(name, packages):
    """Installs packages of PyPI into a folder of the target folder, unless they are there. Returns that folder."""
    folder = f"{TARGET}/tools/{name}"
    # It names what is there: a folder of before, with less in it, is filled up.
    note, wanted = pathlib.Path(folder, "installed"), "\n".join(packages)
    if not note.exists() or note.read_text(encoding="utf-8") != wanted:
        if subprocess.run([sys.executable, "-m", "venv", folder], check=False).returncode != 0:
            subprocess.run(["apt-get", "install", "-y", "-q", "python3-venv"], check=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([f"{folder}/bin/pip", "install", "--quiet", *packages], check=True)
        note.write_text(wanted, encoding="utf-8")
    return folder


class Cluster:
    """Nodes are counted from 1. They end with this process, whatever happens to it: they watch their standard input."""

    def __init__(self, base_port, nodes=3, shards=None, **environment):
        self.folder = tempfile.TemporaryDirectory()
        self.environment = {**os.environ, **environment}
        self.http = {node: f"127.0.0.1:{base_port + 20 + node}" for node in range(1, nodes + 1)}
        self.resp = {node: f"127.0.0.1:{base_port + 30 + node}" for node in range(1, nodes + 1)}
        self.processes = {}
        shape = ["--nodes", str(nodes), "--base-port", str(base_port)]
        if shards:
            shape += ["--shards", str(shards)]
        if nodes < 3:
            shape += ["--replication-factor", "1"]
        subprocess.run([program(), "init", "--dir", f"{self.folder.name}/c", *shape], check=True, stdout=subprocess.DEVNULL)

    def __enter__(self):
        for node in self.http:
            self.start(node)
        for node in self.http:
            self.await_ready(node)
        return self

    def __exit__(self, *_):
        for node in self.http:
            self.processes[node].terminate()
        for node in self.http:
            self.processes[node].wait(timeout=STOPPED_WITHIN_S)
        self.folder.cleanup()

    def start(self, node):
        config = f"{self.folder.name}/c/node-{node}/kvorum.toml"
        with open(f"{self.folder.name}/log-{node}", "ab") as log:
            self.processes[node] = subprocess.Popen(
                [program(), "start", "--config", config, "--exit-with-stdin"],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def stop(self, node):
        """Stops a node cleanly. Returns how many seconds it took."""
        began = time.monotonic()
        self.processes[node].terminate()
        code = self.processes[node].wait(timeout=STOPPED_WITHIN_S)
        if code != 0:
            sys.exit(f"node {node} has ended with {code}\n{self.log(node)}")
        return time.monotonic() - began

    def kill(self, node):
        """The node's process dies. Returns how many seconds that took."""
        began = time.monotonic()
        self.processes[node].kill()
        self.processes[node].wait(timeout=STOPPED_WITHIN_S)
        return time.monotonic() - began

    def await_ready(self, node):
        await_ready(self.http[node], self.processes[node])

    def await_balanced(self):
        """Waits until every node leads as many shards as any other, but for one. Right after a start the last node leads fewer, and shards
        are handed over to it some seconds later."""
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            with urllib.request.urlopen(f"http://{self.http[1]}/nodes", timeout=5) as answer:
                leads = [node["leads"] for node in json.load(answer)["nodes"]]
            if max(leads) - min(leads) <= 1:
                return
            if time.monotonic() > deadline:
                sys.exit(f"nodes lead {leads} shards after {READY_WITHIN_S} s")
            time.sleep(0.2)

    def log(self, node):
        with open(f"{self.folder.name}/log-{node}", encoding="utf-8", errors="replace") as log:
            return log.read()[-4000:]
