"""Logs, execs, terminals, ports; and what happens when somebody is killed: cases of hack/cri-suite."""
import concurrent.futures
import contextlib
import json
import os
import re
import signal

import grpc

from cri import RUNNING, Skip, equal, eventually, processes, refused, shims
from websocket import WebSocket

# ---- logs

def case_log_of_both_streams(s):
    with s.pod() as pod:
        c = pod.run("sh", "-c", "echo out; echo err >&2; printf rest")
        c.exit_code()
        equal((c.log("stdout", "rest"), c.log("stderr")), ("out\nrest", "err\n"))


def case_log_is_complete(s):
    with s.pod() as pod:
        # containerd 1.6 now and then stops writing a log when its task ends, whatever the shim: there the task
        # ends later.
        wait = "; sleep 3" if s.version < (1, 7) else ""
        c = pod.run("sh", "-c", "seq 100000" + wait)
        equal(c.exit_code(), 0)
        wanted = "".join(f"{n}\n" for n in range(1, 100001))
        equal(c.log("stdout", "\n100000\n") == wanted, True)


def case_log_reopened(s):
    with s.pod() as pod:
        c = pod.run("sh", "-c", "trap 'echo second' USR1; echo first; while :; do sleep 0.1; done")
        c.log("stdout", "first")
        os.rename(c.log_file(), c.log_file() + ".1")
        s.cri("ReopenContainerLog", container_id=c.id)
        equal(c.sync("kill", "-USR1", "1")[0], 0)
        equal(c.log("stdout", "second"), "second\n")


# ---- exec and attach

def case_exec_sync(s):
    with s.pod() as pod:
        c = pod.sleeper()
        equal(c.sync("sh", "-c", "echo out; echo err >&2; exit 3"), (3, "out\n", "err\n"))
        equal(len(c.sync("seq", "100000")[1]), 588895)


def case_exec_sync_out_of_time(s):
    with s.pod() as pod:
        c = pod.sleeper()
        with refused("timeout|deadline", grpc.StatusCode.DEADLINE_EXCEEDED if s.version >= (1, 7) else None):
            c.sync("sleep", "1000", timeout=1)
        eventually("the program is killed", lambda: "sleep 1000" not in c.sync("ps")[1])


def case_exec_sync_of_no_such_command(s):
    with s.pod() as pod:
        c = pod.sleeper()
        with refused('exec: "no-such-command": executable file not found in \\$PATH'):
            c.sync("no-such-command")
        equal(c.sync("echo", "on"), (0, "on\n", ""))


def case_execs_in_parallel(s):
    with s.pod() as pod:
        c = pod.sleeper()
        with concurrent.futures.ThreadPoolExecutor(8) as workers:
            equal(list(workers.map(lambda n: c.sync("sh", "-c", f"echo {n}; exit {n}"), range(30))), [(n, f"{n}\n", "") for n in range(30)])


def case_exec_stream(s):
    with s.pod() as pod:
        c = pod.sleeper()
        stream = c.stream("Exec", cmd=["sh", "-c", "read x; echo got $x; echo err >&2; exit 4"], stdin=True, stdout=True, stderr=True)
        stream.send(0, b"word\n")
        found = stream.collect()
        equal((found[1], found[2]), (b"got word\n", b"err\n"))
        equal(json.loads(found[3])["details"]["causes"][0]["message"], "4")
        stream.close()


def case_exec_terminal(s):
    with s.pod() as pod:
        c = pod.sleeper()
        stream = c.stream("Exec", cmd=["sh"], stdin=True, stdout=True, tty=True)
        stream.send(4, b'{"Width":77,"Height":33}')
        stream.send(0, b"until stty size | grep -q '33 77'; do sleep 0.1; done; stty size; tty; echo e''nd\n")
        found = stream.collect(b"\r\nend\r\n")[1]
        assert b"\r\n33 77\r\n/dev/pts/0\r\n" in found, found
        stream.send(0, b"exit 6\n")
        equal(json.loads(stream.collect()[3])["details"]["causes"][0]["message"], "6")
        stream.close()


def case_attach(s):
    with s.pod() as pod:
        c = pod.run("sh", "-c", "while read x; do echo got $x; done; echo over", stdin=True)
        stream = c.stream("Attach", stdin=True, stdout=True, stderr=True)
        stream.send(0, b"one\n")
        stream.collect(b"got one\n")
        stream.close()
        stream = c.stream("Attach", stdin=True, stdout=True, stderr=True)
        stream.send(0, b"two\n")
        stream.collect(b"got two\n")
        stream.close()
        equal(c.log("stdout", "got two"), "got one\ngot two\n")
        equal(c.status().state, RUNNING)


def case_terminal(s):
    with s.pod() as pod:
        c = pod.run("sh", "-c", "tty; read x; echo got $x; exit 2", tty=True, stdin=True)
        stream = c.stream("Attach", stdin=True, stdout=True, tty=True)
        stream.send(0, b"word\n")
        stream.collect(b"got word\r\n")
        stream.close()
        equal(c.exit_code(), 2)
        assert "/dev/pts/0" in c.log("stdout", "got word")


def case_port_forward(s):
    with s.pod() as pod:
        c = pod.run("sh", "-c", "while :; do nc -l -p 8080 -e cat; done")
        eventually("the server listens", lambda: ":1F90" in c.sync("cat", "/proc/net/tcp", "/proc/net/tcp6")[1])
        url = s.cri("PortForward", pod_sandbox_id=pod.id, port=[8080]).url
        host, port, path = re.fullmatch(r"http://([^:/]+):(\d+)(/.*)", url).groups()
        stream = WebSocket(host, int(port), path, "v4.channel.k8s.io")
        # channel 0 is the first port's data, 1 its errors; each begins with the port
        for channel in (0, 1):
            equal(stream.receive(), (channel, (8080).to_bytes(2, "little")))
        stream.send(0, b"to and fro")
        equal(stream.receive(), (0, b"to and fro"))
        stream.close()


# ---- faults

def case_restart_of_containerd(s):
    with s.pod() as pod:
        c = pod.run("sh", "-c", "trap 'exit 5' TERM; i=0; while :; do i=$((i + 1)); echo $i; sleep 0.05; done")
        pid = c.info()["pid"]
        c.log("stdout", "3\n")
        s.stop(signal.SIGTERM)
        s.start()
        equal((pod.status().state, c.status().state, c.info()["pid"]), (0, RUNNING, pid))
        size = os.path.getsize(c.log_file())
        eventually("the log goes on", lambda: os.path.getsize(c.log_file()) > size)
        equal(c.sync("echo", "on"), (0, "on\n", ""))
        c.stop(20)
        equal(c.status().exit_code, 5)
        equal(pod.shell("echo new", name="new"), "new\n")


def case_exit_while_containerd_is_away(s):
    if s.is_runc_shim and s.version >= (1, 7):
        raise Skip("containerd since 1.7 takes a stopped task of runc's shim for a leaked one when it starts: 255")
    with s.pod() as pod:
        c = pod.run("sh", "-c", "trap 'exit 6' TERM; echo ready; while :; do sleep 0.1; done")
        c.log("stdout", "ready")
        pid = c.info()["pid"]
        s.stop(signal.SIGKILL)
        os.kill(pid, signal.SIGTERM)
        eventually("the program ended", lambda: pid not in [p for p, _, state, _ in processes() if state != "Z"])
        s.start()
        equal(c.exit_code(), 6)


def case_shim_killed(s):
    with s.pod() as pod:
        c = pod.run("sleep", "1000")
        pid = c.info()["pid"]
        os.kill(shims()[0], signal.SIGKILL)
        eventually("containerd's cleanup kills what ran", lambda: pid not in [p for p, *_ in processes()])
        assert c.exit_code() in (137, 255), c.status()
        eventually("the pod is not ready", lambda: pod.status().state == 1)
    with s.pod() as pod:
        equal(pod.shell("echo again"), "again\n")


def case_program_of_the_pod_killed(s):
    with s.pod() as pod:
        c = pod.sleeper()
        os.kill(pod.info()["pid"], signal.SIGKILL)
        eventually("the pod is not ready", lambda: pod.status().state == 1)
        equal(c.status().state, RUNNING)


def case_real_time_signal(s):
    """An exec that ends by a signal without a name."""
    with s.pod() as pod:
        c = pod.sleeper()
        equal(c.sync("sh", "-c", "kill -37 $$")[0], 165)
        equal(c.sync("echo", "on"), (0, "on\n", ""))


def case_checkpoint(s):
    with s.pod() as pod:
        c = pod.sleeper()
        try:
            with refused("not implemented|unimplemented|unknown method|not yet"):
                s.cri("CheckpointContainer", container_id=c.id, location=f"{s.folder}/checkpoint.tar")
        except KeyError:
            raise Skip("this containerd's CRI has no checkpoints") from None
        equal(c.status().state, RUNNING)


def left(s):
    """What is left when all pods are gone."""
    mine = re.compile("containerd-shim|ferrun|runc|crun")
    yield from (f"process {pid} {name}" for pid, _, _, name in processes() if mine.match(name))
    for line in open("/proc/self/mountinfo"):
        if re.match(r"/run/(?!netns$)|.*/(rootfs|shm|overlayfs)", line.split()[4]) and "/run/test" in line:
            yield "mount " + line.split()[4]
    folders = ["/run/test-containerd/io.containerd.runtime.v2.task/k8s.io", "/run/test-containerd/io.containerd.grpc.v1.cri/sandboxes",
               "/run/test-containerd/io.containerd.grpc.v1.cri/containers", "/run/netns",
               "/run/ferrun", "/run/runc", "/run/crun", "/run/containerd/runc/k8s.io", "/run/containerd/ferrun/k8s.io"]
    if not s.is_runc_shim:  # which leaves the socket of one that was killed
        folders.append("/run/containerd/s")
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            yield from (f"{folder}/{name}" for name in os.listdir(folder))
    for hierarchy in os.listdir("/sys/fs/cgroup"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            yield from (f"cgroup {hierarchy} {n}" for n in os.listdir(f"/sys/fs/cgroup/{hierarchy}/pods")
                        if n != "uid" and os.path.isdir(f"/sys/fs/cgroup/{hierarchy}/pods/{n}"))


def case_nothing_left(s):
    equal(len(s.cri("ListContainers").containers) + len(s.cri("ListPodSandbox").items), 0)
    try:
        eventually("nothing is left", lambda: not list(left(s)))
    except AssertionError:
        equal(list(left(s)), [])
