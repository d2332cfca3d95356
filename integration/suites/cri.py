"""What the cases of hack/cri-suite are written with: a containerd of their own, pods and containers through CRI.

    cri.py DIR LOGS RUNTIME SHIM_TYPE VERSION [CASE...]     runs the cases; see hack/cri-suite
"""
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
import urllib.parse

import grpc

import rpc
from websocket import WebSocket

SOCKET = "/run/test-containerd.sock"
IMAGE = "localhost/busybox:latest"
CREATED, RUNNING, EXITED = 0, 1, 2  # a container's states
POD, CONTAINER, NODE, TARGET = 0, 1, 2, 3  # whose namespace
# What kubelet says for each pod: that containers share this namespace is on request.
PID = {"security_context": {"namespace_options": {"pid": CONTAINER}}}
LIMIT = 30  # seconds that anything may take that we wait for, on a busy machine


class Skip(Exception):
    """This case has no meaning here; the text says why."""


def security(**context):
    """What it takes of a container's configuration."""
    return {"linux": {"security_context": context}}


def equal(got, wanted):
    if got != wanted:
        raise AssertionError(f"expected {wanted!r}, but got {got!r}")


def eventually(what, check):
    """The first true answer of `check`; it is asked again and again."""
    end = time.monotonic() + LIMIT
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {LIMIT} s: {what}")
        time.sleep(0.05)


@contextlib.contextmanager
def refused(pattern, code=None):
    """What is inside has to fail with these words."""
    try:
        yield
    except grpc.RpcError as error:
        if not re.search(pattern, error.details()):
            raise AssertionError(f"refused, but without /{pattern}/: {error.details()}") from None
        if code and error.code() != code:
            raise AssertionError(f"refused, but as {error.code().name}") from None
        return
    raise AssertionError(f"not refused (/{pattern}/)")


def processes():
    """(pid, parent, state, name) of all."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            name, rest = open(f"/proc/{pid}/stat").read().split("(", 1)[1].rsplit(")", 1)
            state, parent = rest.split()[:2]
            found.append((int(pid), int(parent), state, name))
    return found


def shims():
    return [pid for pid, _, state, name in processes() if name.startswith("containerd-shim") and state != "Z"]


class Server:
    """containerd, and a connection to it."""

    def __init__(self, folder, logs, runtime, kind, version):
        self.folder, self.logs, self.runtime, self.kind = folder, logs, runtime, kind
        self.pods = 0
        self.version = tuple(map(int, version.split(".")))
        self.configure()
        self.start()

    @property
    def is_runc_shim(self):
        return self.kind == "io.containerd.runc.v2"

    def configure(self):
        folder, cri = self.folder, 'plugins."io.containerd.grpc.v1.cri"'
        # runc's options are runc's shim's; others find the runtime in PATH
        options = f'[{cri}.containerd.runtimes.test.options]\nBinaryName = "{self.runtime}"' if self.is_runc_shim else ""
        text = f"""
version = 2
root = "{folder}/root"
state = "/run/test-containerd"
[grpc]
address = "{SOCKET}"
[ttrpc]
address = "{SOCKET}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
[{cri}]
sandbox_image = "localhost/pause:latest"
restrict_oom_score_adj = true # no CAP_SYS_RESOURCE to lower it
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[{cri}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
[{cri}.containerd]
default_runtime_name = "test"
[{cri}.containerd.runtimes.test]
runtime_type = "{self.kind}"
{options}
"""
        open(f"{folder}/config.toml", "w").write(text)
        os.makedirs(f"{folder}/cni")
        # No chain for published ports: portmap wants iptables, and is nothing of the runtime's.
        network = {"cniVersion": "0.4.0", "name": "test", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": True,
             "ipam": {"type": "host-local", "dataDir": f"{folder}/cni-data",
                      "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
        json.dump(network, open(f"{folder}/cni/10-test.conflist", "w"))

    def start(self):
        self.process = subprocess.Popen(["containerd", "-c", f"{self.folder}/config.toml"], stdin=subprocess.DEVNULL,
                                        stdout=open(f"{self.logs}/containerd", "a"), stderr=subprocess.STDOUT)
        self.client = rpc.Client(SOCKET)
        eventually("the CRI plugin is ready", self.ready)

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"containerd ended: {self.process.returncode}")
        try:
            return all(c.status for c in self.cri("Status").status.conditions if c.type in ("RuntimeReady", "NetworkReady"))
        except grpc.RpcError:
            return False

    def stop(self, number=signal.SIGTERM):
        self.client.channel.close()
        self.process.send_signal(number)
        self.process.wait(LIMIT)

    def cri(self, method, **fields):
        return self.client.call("runtime.v1.RuntimeService/" + method, **fields)

    def images(self, method, **fields):
        return self.client.call("runtime.v1.ImageService/" + method, **fields)

    def ctr(self, *words):
        return subprocess.run(["ctr", "--address", SOCKET, "--namespace", "k8s.io", *words], check=True,
                              capture_output=True, text=True, timeout=LIMIT).stdout

    # ---- pods

    @contextlib.contextmanager
    def pod(self, name="pod", **config):
        """A pod that runs, and is gone afterwards."""
        pod = self.run_pod(name, **config)
        with contextlib.closing(pod):
            yield pod

    def run_pod(self, name="pod", **config):
        self.pods += 1  # each has logs of its own
        config = merged({
            "metadata": {"name": name, "uid": f"uid-{name}", "namespace": "default"},
            "hostname": name, "log_directory": f"{self.folder}/pods/{self.pods}",
            "dns_config": {"servers": ["192.0.2.1"], "searches": ["example.test"]},
            "linux": {"cgroup_parent": "/pods", **PID}}, config)
        return Pod(self, self.cri("RunPodSandbox", config=config).pod_sandbox_id, config)

    def clear(self):
        """Whatever a failed case left."""
        for item in self.cri("ListPodSandbox").items:
            with contextlib.suppress(grpc.RpcError):
                Pod(self, item.id, {}).close()


def merged(base, more):
    """A dictionary with those below it merged, everything else replaced."""
    result = dict(base)
    for key, value in more.items():
        result[key] = merged(result[key], value) if isinstance(value, dict) and isinstance(result.get(key), dict) else value
    return result


class Pod:
    def __init__(self, server, identity, config):
        self.server, self.id, self.config, self.outputs = server, identity, config, 0

    def status(self):
        return self.server.cri("PodSandboxStatus", pod_sandbox_id=self.id).status

    def info(self):
        """containerd's own words: the pid, the runtime, the spec."""
        return json.loads(self.server.cri("PodSandboxStatus", pod_sandbox_id=self.id, verbose=True).info["info"])

    def close(self):
        for method in ("StopPodSandbox", "RemovePodSandbox"):
            try:
                self.server.cri(method, pod_sandbox_id=self.id)
            except grpc.RpcError as error:  # a case may have removed it
                if error.code() != grpc.StatusCode.NOT_FOUND:
                    raise

    def create(self, *command, name="c", **config):
        config = merged({"metadata": {"name": name}, "image": {"image": IMAGE}, "command": list(command),
                         "log_path": f"{name}.log", "linux": PID}, config)
        answer = self.server.cri("CreateContainer", pod_sandbox_id=self.id, config=config, sandbox_config=self.config)
        return Container(self, answer.container_id, config)

    def run(self, *command, **config):
        container = self.create(*command, **config)
        container.start()
        return container

    def sleeper(self, **config):
        """Ends at once when it is told to."""
        return self.run("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done", **config)

    def output(self, *command, **config):
        """What a program wrote to stdout; it has to exit with 0. Its container is removed."""
        self.outputs += 1
        container = self.run(*command, **merged({"log_path": f"output-{self.outputs}.log"}, config))
        equal((container.exit_code(), container.log("stderr")), (0, ""))
        text = container.log("stdout")
        container.remove()
        return text

    def shell(self, script, **config):
        return self.output("sh", "-c", script, **config)


class Container:
    def __init__(self, pod, identity, config):
        self.pod, self.cri, self.id, self.config = pod, pod.server.cri, identity, config

    def start(self):
        self.cri("StartContainer", container_id=self.id)

    def stop(self, timeout=0):
        self.cri("StopContainer", container_id=self.id, timeout=timeout)

    def remove(self):
        self.cri("RemoveContainer", container_id=self.id)

    def status(self):
        return self.cri("ContainerStatus", container_id=self.id).status

    def info(self):
        return json.loads(self.cri("ContainerStatus", container_id=self.id, verbose=True).info["info"])

    def exit_code(self):
        eventually("the container exits", lambda: self.status().state == EXITED)
        return self.status().exit_code

    def sync(self, *command, timeout=0):
        """(exit code, stdout, stderr) of an exec."""
        answer = self.cri("ExecSync", container_id=self.id, cmd=command, timeout=timeout)
        return answer.exit_code, answer.stdout.decode(), answer.stderr.decode()

    def log_file(self):
        return f"{self.pod.config['log_directory']}/{self.config['log_path']}"

    def log(self, stream, wanted=None):
        """The text of one stream; where `wanted` is given, once it is there."""
        if wanted is not None:
            eventually(f"{wanted!r} in the log", lambda: wanted in self.log(stream))
        text = ""
        for line in open(self.log_file(), errors="replace").read().splitlines():
            _, whose, tag, *rest = line.split(" ", 3)
            if whose == stream:
                text += "".join(rest) + ("\n" if tag == "F" else "")
        return text

    def stream(self, method, **options):
        """A connection to an exec's or the program's own streams."""
        url = urllib.parse.urlparse(self.cri(method, container_id=self.id, **options).url)
        return WebSocket(url.hostname, url.port, url.path, "v4.channel.k8s.io")


def attempt(server, case, log):
    """The result of one try, and its words. What a failure left is cleared away."""
    try:
        case(server)
    except Skip as reason:
        return "skip", f": {reason}"
    except Exception as error:
        words = error.details() if isinstance(error, grpc.RpcError) else str(error) or type(error).__name__
        with open(log, "w") as file:
            traceback.print_exc(file=file)
        with contextlib.suppress(grpc.RpcError):
            if server.process.poll() is not None:
                server.start()
            server.clear()
        return "FAIL", ": " + " ".join(words.split())[:300]
    return "pass", ""


def main():
    import cri_pods
    import cri_programs
    import cri_streams
    modules = (cri_pods, cri_programs, cri_streams)
    folder, logs, runtime, kind, version, *only = sys.argv[1:]
    server = Server(folder, logs, runtime, kind, version)
    for archive in ("image", "pause"):
        server.ctr("image", "import", f"{folder}/{archive}.tar")
    eventually("CRI knows the images", lambda: len(server.images("ListImages").images) > 0 and
               server.images("ImageStatus", image={"image": "localhost/pause:latest"}).HasField("image"))
    cases = {n[5:]: f for module in modules for n, f in vars(module).items() if n.startswith("case_")}
    names = [n for n in (only or cases) if n != "nothing_left"] + ["nothing_left"]
    sums = {"pass": 0, "FAIL": 0, "skip": 0}
    for name in names:
        result, words = attempt(server, cases[name], f"{logs}/{name}")
        if result == "FAIL" and name != "nothing_left":  # once more, as the machine may have been too busy
            print(f"again {name}{words}", flush=True)
            result, words = attempt(server, cases[name], f"{logs}/{name}.second")
        sums[result] += 1
        print(f"{result}  {name}{words}", flush=True)
    server.stop()
    print(f"{sums['pass']} passed, {sums['FAIL']} failed, {sums['skip']} skipped")
    sys.exit(sums["FAIL"] != 0)


if __name__ == "__main__":
    # the cases import this file by its name
    sys.modules["cri"] = sys.modules["__main__"]
    main()
