"""The plugin, pods, and the life of a container: cases of hack/cri-suite.

A case is a function of a Server that raises at the first thing that is wrong. They run in this order."""
import concurrent.futures
import os
import re

import grpc

from cri import CREATED, EXITED, IMAGE, NODE, POD, RUNNING, equal, eventually, processes, refused, security, shims

# ---- the plugin itself

def case_version(s):
    equal(s.cri("Version").runtime_name, "containerd")


def case_images(s):
    assert any(IMAGE in i.repo_tags for i in s.images("ListImages").images), "the image is not listed"
    assert s.images("ImageStatus", image={"image": IMAGE}).image.size > 0
    assert not s.images("ImageStatus", image={"image": "localhost/none:latest"}).HasField("image")


# ---- pods

def case_pod_status(s):
    with s.pod("pod", labels={"a": "b"}, annotations={"c": "d"}) as pod:
        status = pod.status()
        equal((status.state, status.metadata.name, dict(status.labels)["a"], dict(status.annotations)["c"]), (0, "pod", "b", "d"))
        assert re.fullmatch(r"10\.88\.\d+\.\d+", status.network.ip), status.network.ip
        assert pod.info()["runtimeType"] == s.kind, pod.info()["runtimeType"]


def case_pod_list(s):
    with s.pod("one", labels={"n": "1"}) as one, s.pod("two", labels={"n": "2"}) as two:
        def found(**f):
            return {p.id for p in s.cri("ListPodSandbox", filter=f).items}
        equal(found(label_selector={"n": "1"}), {one.id})
        equal(found(id=two.id), {two.id})
        equal(found(state={"state": 0}), {one.id, two.id})
        s.cri("StopPodSandbox", pod_sandbox_id=one.id)
        equal((found(state={"state": 0}), found(state={"state": 1})), ({two.id}, {one.id}))


def case_pod_stopped_and_removed_twice(s):
    with s.pod() as pod:
        s.cri("StopPodSandbox", pod_sandbox_id=pod.id)
        s.cri("StopPodSandbox", pod_sandbox_id=pod.id)
        equal(pod.status().state, 1)
        s.cri("RemovePodSandbox", pod_sandbox_id=pod.id)
        s.cri("RemovePodSandbox", pod_sandbox_id=pod.id)
        with refused("not found", grpc.StatusCode.NOT_FOUND):
            pod.status()


def case_pod_stop_takes_its_containers_along(s):
    with s.pod() as pod:
        c = pod.run("sleep", "1000")
        s.cri("StopPodSandbox", pod_sandbox_id=pod.id)
        equal((c.status().state, c.status().exit_code), (EXITED, 137))
        s.cri("RemovePodSandbox", pod_sandbox_id=pod.id)
        with refused("not found", grpc.StatusCode.NOT_FOUND):
            c.status()


def case_pod_name_taken(s):
    with s.pod(), refused("is reserved for"):
        s.run_pod()


def case_pod_of_an_unknown_handler(s):
    with refused("no runtime for|failed to get sandbox runtime"):
        s.cri("RunPodSandbox", config={"metadata": {"name": "x", "uid": "x", "namespace": "default"}}, runtime_handler="none")


def case_pod_hostname_and_dns(s):
    with s.pod("named") as pod:
        equal(pod.shell("hostname; cat /etc/resolv.conf"), "named\nsearch example.test\nnameserver 192.0.2.1\n")


def case_pod_sysctls(s):
    with s.pod(linux={"sysctls": {"net.ipv4.ip_unprivileged_port_start": "99", "kernel.shm_rmid_forced": "1"}}) as pod:
        equal(pod.shell("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced"), "99\n1\n")


def case_pods_talk(s):
    with s.pod("server") as server, s.pod("client") as client:
        server.run("sh", "-c", "while :; do echo hello | nc -l -p 8080; done")
        address = server.status().network.ip
        equal(client.shell(f"i=0; until nc {address} 8080 < /dev/null; do i=$((i + 1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done").split("\n")[0], "hello")


def case_pod_in_the_host_network(s):
    with s.pod(hostname="", linux={"security_context": {"namespace_options": {"network": NODE}}}) as pod:
        equal(pod.shell("readlink /proc/self/ns/net", **security(namespace_options={"network": NODE})).strip(),
              os.readlink("/proc/self/ns/net"))


def case_pods_in_parallel(s):
    def life(number):
        with s.pod(f"pod{number}") as pod:
            return pod.shell(f"echo {number}")
    with concurrent.futures.ThreadPoolExecutor(5) as workers:
        equal(list(workers.map(life, range(10))), [f"{n}\n" for n in range(10)])


# ---- one shim for a pod

def case_one_shim_for_a_pod(s):
    with s.pod() as pod:
        before = shims()
        equal(len(before), 1)
        first, second = pod.sleeper(name="one"), pod.sleeper(name="two")
        equal(shims(), before)
        parents = {pid: parent for pid, parent, *_ in processes()}
        for c in (first, second):
            equal(parents[c.info()["pid"]], before[0])
        first.stop(10)
        first.remove()
        equal((shims(), second.status().state, pod.status().state), (before, RUNNING, 0))
        equal(second.sync("echo", "on"), (0, "on\n", ""))
    eventually("the shim ends with its pod", lambda: not shims())


def case_namespaces_of_a_pod(s):
    with s.pod() as pod:
        c = [pod.sleeper(name=n) for n in ("one", "two")]
        own = [x.sync("sh", "-c", "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done")[1].split() for x in c]
        equal([a == b for a, b in zip(*own)], [True, True, True, False, False])


def case_shared_pid_namespace(s):
    shared = {"namespace_options": {"pid": POD}}
    with s.pod(linux={"security_context": shared}) as pod:
        c = pod.sleeper(linux={"security_context": shared})
        equal(c.sync("sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline")[1], "/bin/sh -c while :; do sleep 1000; done ")
        c.stop(10)
        equal(c.status().exit_code, 0)
        # A program that leaves processes behind in the pod's namespace: they go with it.
        d = pod.run("sh", "-c", "sleep 4321 & exit 3", name="d", linux={"security_context": shared})
        equal(d.exit_code(), 3)
        eventually("what the container left is killed", lambda: "4321" not in "".join(
            open(f"/proc/{p}/cmdline").read() for p, *_ in processes() if os.path.exists(f"/proc/{p}/cmdline")))


def case_host_pid_namespace(s):
    host = {"namespace_options": {"pid": NODE}}
    with s.pod(linux={"security_context": host}) as pod:
        equal(pod.shell("readlink /proc/self/ns/pid", linux={"security_context": host}).strip(), os.readlink("/proc/self/ns/pid"))


# ---- a container's life

def case_container_states(s):
    with s.pod() as pod:
        c = pod.create("sh", "-c", "exit 7")
        equal(c.status().state, CREATED)
        c.start()
        equal(c.exit_code(), 7)
        status = c.status()
        equal(status.reason, "Error")
        assert status.created_at <= status.started_at <= status.finished_at, status
        c.remove()
        with refused("not found", grpc.StatusCode.NOT_FOUND):
            c.status()
        c.remove()


def case_container_completed(s):
    with s.pod() as pod:
        c = pod.run("true")
        equal((c.exit_code(), c.status().reason), (0, "Completed"))


def case_container_list(s):
    with s.pod() as pod:
        a, b = pod.sleeper(name="a", labels={"n": "a"}), pod.create("true", name="b")
        def found(**f):
            return {c.id for c in s.cri("ListContainers", filter=f).containers}
        equal(found(), {a.id, b.id})
        equal(found(state={"state": RUNNING}), {a.id})
        equal(found(label_selector={"n": "a"}), {a.id})
        equal(found(pod_sandbox_id=pod.id), {a.id, b.id})


def case_container_started_twice(s):
    with s.pod() as pod:
        c = pod.sleeper()
        with refused("CONTAINER_RUNNING"):
            c.start()


def case_container_removed_while_created(s):
    with s.pod() as pod:
        pod.create("true").remove()
        equal(pod.shell("echo next"), "next\n")


def case_container_removed_while_running(s):
    with s.pod() as pod:
        pod.run("sleep", "1000").remove()
        equal(len(s.cri("ListContainers").containers), 0)


def case_container_again(s):
    """What kubelet does when a program failed: the same name, the next attempt."""
    with s.pod() as pod:
        for attempt in range(3):
            c = pod.run("sh", "-c", "exit 1", metadata={"name": "c", "attempt": attempt}, log_path=f"c/{attempt}.log")
            equal((c.exit_code(), c.status().metadata.attempt), (1, attempt))


def case_stop_asks_first(s):
    with s.pod() as pod:
        c = pod.run("sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done")
        c.log("stdout", "ready")
        c.stop(20)
        equal(c.status().exit_code, 5)
        c.stop(20)  # once more is no mistake


def case_stop_insists(s):
    with s.pod() as pod:
        c = pod.run("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
        c.log("stdout", "ready")
        c.stop(1)
        equal(c.status().exit_code, 137)


def case_no_such_command(s):
    with s.pod() as pod:
        c = pod.create("no-such-command")
        with refused('exec: "no-such-command": executable file not found in \\$PATH'):
            c.start()
        equal((c.status().state, c.status().reason, c.status().exit_code), (EXITED, "StartError", 128))
        equal(pod.shell("echo fine", name="d"), "fine\n")
