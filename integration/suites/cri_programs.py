"""What a program finds in its container, and its limits: cases of hack/cri-suite."""
import contextlib
import json
import os

import grpc

from cri import POD, Skip, equal, eventually, refused, security

# ---- what a program finds

def case_environment(s):
    with s.pod() as pod:
        equal(pod.shell("echo $A; pwd", envs=[{"key": "A", "value": "b c"}], working_dir="/tmp"), "b c\n/tmp\n")
        equal(pod.output("echo", "one", name="d", args=["two", "three"]), "one two three\n")


def case_user_and_groups(s):
    with s.pod() as pod:
        ids = "id -u; id -g; id -G"
        equal(pod.shell(ids, **security(run_as_user={"value": 1000}, run_as_group={"value": 7}, supplemental_groups=[8, 9])),
              "1000\n7\n7 8 9 1001\n")
        equal(pod.shell(ids, name="d", **security(run_as_username="user")), "1000\n1000\n1000 1001\n")


def case_capabilities(s):
    with s.pod() as pod:
        def effective(**context):
            return int(pod.shell("grep CapEff /proc/self/status", **security(**context)).split()[1], 16)
        base = effective()
        equal(effective(capabilities={"add_capabilities": ["SYS_ADMIN"], "drop_capabilities": ["CHOWN"]}), (base | 1 << 21) & ~1)
        equal(effective(capabilities={"drop_capabilities": ["ALL"]}), 0)


def case_no_new_privileges(s):
    with s.pod() as pod:
        for wanted in (True, False):
            equal(pod.shell("grep NoNewPrivs /proc/self/status", **security(no_new_privs=wanted)).split()[1], str(int(wanted)))


def case_privileged(s):
    with s.pod(linux={"security_context": {"privileged": True}}) as pod:
        text = pod.shell("ls /dev/null /dev/zero; touch /proc/sys/kernel/domainname && echo writable; ls /dev | wc -l; ls /proc/acpi /proc/scsi > /dev/null 2>&1; true",
                         **security(privileged=True))
        assert text.startswith("/dev/null\n/dev/zero\nwritable\n"), text
        with refused("no privileged container allowed"):
            with s.pod("plain") as plain:
                plain.create("true", **security(privileged=True))


def case_masked_and_readonly_paths(s):
    with s.pod() as pod:
        equal(pod.shell("ls /sys/firmware | wc -l; touch /proc/sys/kernel/domainname 2> /dev/null || echo ro",
                        **security(masked_paths=["/sys/firmware"], readonly_paths=["/proc/sys"])), "0\nro\n")


def case_readonly_root(s):
    with s.pod() as pod:
        equal(pod.shell("touch /x 2> /dev/null || echo ro; touch /dev/shm/x && echo shm", **security(readonly_rootfs=True)), "ro\nshm\n")


def case_mounts(s):
    folder = f"{s.folder}/mounted"
    os.makedirs(folder + "/below")
    open(folder + "/given", "w").write("given\n")
    with s.pod() as pod:
        equal(pod.shell("cat /ro/given; touch /ro/x 2> /dev/null || echo ro; touch /rw/x && echo rw", mounts=[
            {"container_path": "/ro", "host_path": folder, "readonly": True},
            {"container_path": "/rw", "host_path": folder + "/below"}]), "given\nro\nrw\n")
    assert os.path.exists(folder + "/below/x")


def case_mount_propagation(s):
    """HostToContainer: what is mounted on the host appears in the running container."""
    folder = f"{s.folder}/slave"
    os.makedirs(folder + "/in")
    os.system(f"mount --bind {folder} {folder} && mount --make-shared {folder}")
    try:
        with s.pod() as pod:
            c = pod.sleeper(mounts=[{"container_path": "/m", "host_path": folder, "propagation": 1}])
            os.system(f"mount -t tmpfs tmpfs {folder}/in && touch {folder}/in/seen")
            try:
                equal(c.sync("ls", "/m/in"), (0, "seen\n", ""))
            finally:
                os.system(f"umount {folder}/in")
    finally:
        os.system(f"umount {folder}")


def case_devices(s):
    with s.pod() as pod:
        equal(pod.shell("head -c 3 /dev/given | wc -c; head -c 1 /dev/kmsg 2> /dev/null || echo none",
                        devices=[{"container_path": "/dev/given", "host_path": "/dev/zero", "permissions": "rwm"}]), "3\nnone\n")


def case_seccomp(s):
    with s.pod() as pod:
        def mode(kind):
            return pod.shell("grep Seccomp: /proc/self/status; if unshare -U true 2> /dev/null; then echo may; else echo no; fi",
                             **security(seccomp={"profile_type": kind})).split()[1:]
        equal(mode(0), ["2", "no"])  # the default of the runtime, which is containerd's
        equal(mode(1), ["0", "may"])


def case_seccomp_of_a_file(s):
    profile = f"{s.folder}/profile.json"
    json.dump({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
               "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}, open(profile, "w"))
    with s.pod() as pod:
        equal(pod.shell("mkdir /x 2> /dev/null || echo no; touch /y && echo yes",
                        **security(seccomp={"profile_type": 2, "localhost_ref": profile})), "no\nyes\n")


def case_user_namespace(s):
    if s.version < (1, 7):
        raise Skip("containerd 1.6 knows no user namespaces for pods")
    mapping = [{"container_id": 0, "host_id": 200000, "length": 65536}]
    options = {"namespace_options": {"userns_options": {"mode": POD, "uids": mapping, "gids": mapping}}}
    try:
        pod = s.run_pod(linux={"security_context": options})
    except grpc.RpcError as error:
        if "user namespaces are not supported yet" in error.details():
            raise Skip("the runtime has no user namespaces yet") from None
        raise
    with contextlib.closing(pod):
        c = pod.sleeper(linux={"security_context": options})
        equal(c.sync("sh", "-c", "tr -s ' ' < /proc/self/uid_map; id -u; touch /x && stat -c %u /bin /x"),
              (0, " 0 200000 65536\n0\n0\n0\n", ""))
        assert "Uid:\t200000" in open(f"/proc/{c.info()['pid']}/status").read()
        equal(os.readlink(f"/proc/{pod.info()['pid']}/ns/user"), os.readlink(f"/proc/{c.info()['pid']}/ns/user"))


# ---- limits

def in_cgroup(container, name):
    """A file of the container's memory, cpu, … cgroup (v1), by the controller its name begins with."""
    controller = name.split(".")[0]
    for line in open(f"/proc/{container.info()['pid']}/cgroup"):
        _, names, path = line.strip().split(":", 2)
        if controller in names.split(","):
            return open(f"/sys/fs/cgroup/{controller}{path}/{name}").read().strip()
    raise Skip(f"no controller of {name} here")


LIMITS = {"memory_limit_in_bytes": 64 << 20, "cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512}


def limits_of(container):
    return [int(in_cgroup(container, n)) for n in ("memory.limit_in_bytes", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.shares")]


def case_limits(s):
    with s.pod() as pod:
        equal(limits_of(pod.sleeper(linux={"resources": LIMITS})), list(LIMITS.values()))


def case_update(s):
    with s.pod() as pod:
        c = pod.sleeper(linux={"resources": LIMITS})
        s.cri("UpdateContainerResources", container_id=c.id, linux={"memory_limit_in_bytes": 32 << 20, "cpu_quota": 20000, "cpu_shares": 256})
        equal(limits_of(c), [32 << 20, 100000, 20000, 256])
        equal(c.sync("echo", "on"), (0, "on\n", ""))


def case_update_before_start(s):
    with s.pod() as pod:
        c = pod.create("sleep", "1000", linux={"resources": LIMITS})
        s.cri("UpdateContainerResources", container_id=c.id, linux={"memory_limit_in_bytes": 32 << 20})
        c.start()
        equal(limits_of(c)[0], 32 << 20)


def case_out_of_memory(s):
    with s.pod() as pod:
        c = pod.run("tail", "/dev/zero", linux={"resources": {"memory_limit_in_bytes": 16 << 20}})
        equal(c.exit_code(), 137)
        # The event of the kill and that of the exit come in any order.
        eventually("the reason is OOMKilled", lambda: c.status().reason == "OOMKilled")


def case_oom_score(s):
    with s.pod() as pod:
        equal(pod.shell("cat /proc/self/oom_score_adj", linux={"resources": {"oom_score_adj": 900}}), "900\n")


def case_cgroup_parent(s):
    with s.pod(linux={"cgroup_parent": "/pods/uid"}) as pod:
        c = pod.sleeper()
        assert f"/pods/uid/{c.id}" in open(f"/proc/{c.info()['pid']}/cgroup").read()


def case_stats(s):
    with s.pod() as pod:
        c = pod.run("sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i + 1)); done; exec sleep 1000")
        def stats():
            return s.cri("ContainerStats", container_id=c.id).stats
        eventually("processor time is counted", lambda: stats().cpu.usage_core_nano_seconds.value > 1_000_000)
        assert stats().memory.working_set_bytes.value > 0
        equal([x.attributes.id for x in s.cri("ListContainerStats").stats], [c.id])


def case_pod_stats(s):
    with s.pod() as pod:
        pod.sleeper()
        try:
            stats = eventually("a pod's stats", lambda: s.cri("PodSandboxStats", pod_sandbox_id=pod.id).stats)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise
            raise Skip("this containerd has no PodSandboxStats") from None
        assert stats.linux.memory.working_set_bytes.value > 0
        equal(len(stats.linux.containers), 1)
