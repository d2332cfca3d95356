# shellcheck shell=bash
# What `podman run` takes: file systems, identity, limits, namespaces.

# v1 or v2, whichever the sandbox has: limit_is NAME FILE-V1 FILE-V2 VALUE, the limit of container NAME
# Only the cgroups of v1 have controllers here.
limit() {
  local pid path
  pid=$(pid_of "$1")
  path=$(awk -F: -v c="$2" '$2 == c { print $3 }' "/proc/$pid/cgroup")
  cat "/sys/fs/cgroup/$2$path/$3"
}

# --- File systems
case_volume_named() {
  p volume create v > /dev/null
  run -v v:/data $image sh -c 'echo kept > /data/f'
  is "$(run -v v:/data:ro $image sh -c 'cat /data/f; touch /data/g 2> /dev/null || echo ro')" $'kept\nro'
  exits 0 run -v fresh:/etc $image cat /etc/group # copied from the image
  is "$(head -1 "$d/out")" root:x:0:
}
case_volume_bind() {
  mkdir -p "$d/share"; echo given > "$d/share/f"
  is "$(run -v "$d/share:/mnt:ro" $image sh -c 'cat /mnt/f; touch /mnt/g 2> /dev/null || echo ro')" $'given\nro'
  is "$(run --mount "type=bind,src=$d/share,dst=/mnt,ro=true,bind-propagation=rslave" $image cat /mnt/f)" given
  is "$(run -v "$d/share:/mnt:noexec,nosuid,nodev" $image grep -c ' /mnt .*nosuid,nodev,noexec' /proc/mounts)" 1
  is "$(run -v "$d/share/f:/etc/one/two:ro" $image cat /etc/one/two)" given
  exits 125 run -v "$d/absent:/mnt" $image true
}
case_volume_overlay() {
  mkdir -p "$d/under"; echo given > "$d/under/f"
  is "$(run -v "$d/under:/mnt:O" $image sh -c 'cat /mnt/f; echo x > /mnt/f; cat /mnt/f')" $'given\nx'
  is "$(cat "$d/under/f")" given
}
case_volumes_from() {
  p create --name c -v /data $image true > /dev/null
  run --volumes-from c $image sh -c 'echo passed > /data/f'
  is "$(run --volumes-from c $image cat /data/f)" passed
}
case_volume_chown() {
  mkdir -p "$d/owned"; echo given > "$d/owned/f"
  is "$(run -v "$d/owned:/mnt:U" -u 5:6 $image stat -c %u:%g /mnt/f)" 5:6
}
case_mount_of_an_image() { is "$(run --mount type=image,src=$image,dst=/im $image sh -c 'head -1 /im/etc/group; touch /im/x 2> /dev/null || echo ro')" $'root:x:0:\nro'; }
case_rootfs() {
  exits 0 run --rootfs "$d/rootfs:O" sh -c 'head -1 /etc/group; touch /new'
  is "$(cat "$d/out")" root:x:0:
  [ ! -e "$d/rootfs/new" ] || fail "the root itself was written to"
}
case_tmpfs() {
  is "$(run --tmpfs /t:size=64k,mode=1770 $image sh -c 'df -k /t | tail -1 | tr -s " " | cut -d" " -f2; stat -c %a /t')" $'64\n1770'
  is "$(run --mount type=tmpfs,dst=/t,tmpfs-size=1m $image sh -c 'df -k /t | tail -1 | tr -s " " | cut -d" " -f2')" 1024
  is "$(run --shm-size 128k $image sh -c 'df -k /dev/shm | tail -1 | tr -s " " | cut -d" " -f2')" 128
}
case_read_only() {
  exits 1 run --read-only $image touch /x; says 'Read-only file system'
  is "$(run --read-only $image sh -c 'touch /tmp/x /run/x /dev/shm/x && echo writable')" writable
  exits 1 run --read-only --read-only-tmpfs=false $image touch /run/x; says 'Read-only file system'
}
case_device() {
  is "$(run --device /dev/fuse $image sh -c 'test -c /dev/fuse && echo there')" there
  is "$(run --device /dev/null:/dev/nil:r $image sh -c 'test -c /dev/nil && wc -c < /dev/nil')" 0
}
root_device_rules() {
  exits 0 run --device /dev/fuse:/dev/fuse:rw $image sh -c 'exec 3<> /dev/fuse'
  exits 1 run --device /dev/fuse:/dev/fuse:r $image sh -c 'exec 3> /dev/fuse'
  says 'not permitted'
  exits 1 run --cap-add MKNOD $image sh -c 'mknod /tmp/f c 10 229; exec 3< /tmp/f'
  says 'not permitted'
  exits 0 run --cap-add MKNOD --device-cgroup-rule 'c 10:229 rmw' $image sh -c 'mknod /tmp/f c 10 229; exec 3< /tmp/f'
}
case_hooks() {
  mkdir -p "$d/hooks"
  cat > "$d/hooks/one.json" <<END
{"version": "1.0.0", "hook": {"path": "/bin/sh", "args": ["sh", "-c", "cat > $d/hook.said"]}, "when": {"annotations": {"^with-hook$": "yes"}}, "stages": ["prestart"]}
END
  cat > "$d/hooks/two.json" <<END
{"version": "1.0.0", "hook": {"path": "/bin/sh", "args": ["sh", "-c", "cat > $d/hook.last"]}, "when": {"annotations": {"^with-hook$": "yes"}}, "stages": ["poststop"]}
END
  exits 0 p --hooks-dir "$d/hooks" run --rm --annotation with-hook=yes $image true
  has "$(cat "$d/hook.said")" '"pid": ?[1-9]'
  has "$(cat "$d/hook.last")" '"status": ?"stopped"'
  rm "$d"/hook.*
  exits 0 p --hooks-dir "$d/hooks" run --rm $image true
  [ ! -e "$d/hook.said" ] || fail "the hook ran without its annotation"
}

# --- What the program may do
case_capabilities() {
  has "$(run $image grep CapEff /proc/self/status)" '00000000(800405fb|a80425fb)'
  has "$(run --cap-drop all $image grep CapBnd /proc/self/status)" 0000000000000000
  has "$(run --cap-drop all --cap-add net_raw,chown $image grep CapPrm /proc/self/status)" 0000000000002001
  has "$(run -u 5 --cap-add net_raw $image grep CapAmb /proc/self/status)" 0000000000002000
  has "$(run -u 5 $image grep CapEff /proc/self/status)" 0000000000000000
}
case_no_new_privileges() {
  is "$(run --security-opt no-new-privileges $image grep NoNewPrivs /proc/self/status)" $'NoNewPrivs:\t1'
  is "$(run $image grep NoNewPrivs /proc/self/status)" $'NoNewPrivs:\t0'
}
case_seccomp() {
  is "$(run $image grep Seccomp: /proc/self/status)" $'Seccomp:\t2'
  is "$(run --security-opt seccomp=unconfined $image grep Seccomp: /proc/self/status)" $'Seccomp:\t0'
  echo '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}' > "$d/profile.json"
  exits 1 run --security-opt "seccomp=$d/profile.json" $image mkdir /x
  says 'not supported'
}
case_mask_and_unmask() {
  is "$(run $image sh -c 'ls /sys/firmware | wc -l; cat /proc/kcore | wc -c')" $'0\n0'
  is "$(run --security-opt mask=/etc $image sh -c 'ls /etc | wc -l')" 0
  exits 1 run $image sh -c 'echo x > /proc/sys/kernel/hostname'
  is "$(run --security-opt unmask=ALL $image grep -c ' /proc/.* ro' /proc/mounts)" 0
  is "$(run --security-opt unmask=/sys/firmware $image grep -c ' /sys/firmware ' /proc/mounts)" 0
}
case_proc_opts() { has "$(run --security-opt proc-opts=hidepid=2 $image grep ' /proc ' /proc/mounts)" 'hidepid=(2|invisible)'; }
case_privileged() {
  exits 0 run --privileged $image sh -c 'test -c /dev/fuse && grep -q Seccomp:.0 /proc/self/status && mount -t tmpfs t /tmp'
  is "$(run --privileged $image grep -c ' /proc/.* ro' /proc/mounts)" 0
}
case_sysctl() {
  is "$(run --network private --sysctl net.ipv4.ip_default_ttl=33 $image cat /proc/sys/net/ipv4/ip_default_ttl)" 33
  is "$(run --sysctl kernel.msgmax=4096 $image cat /proc/sys/kernel/msgmax)" 4096
}
case_ulimit() {
  # As root Podman asks for more processes than a machine without CAP_SYS_RESOURCE can give
  is "$(run --ulimit nproc=1000:1000 --ulimit nofile=100:200 --ulimit core=0 $image sh -c 'ulimit -Sn; ulimit -Hn; ulimit -c')" $'100\n200\n0'
  is "$(run --ulimit host $image sh -c 'ulimit -Sn')" "$(ulimit -Sn)"
}
case_oom_score_adj() { is "$(run --oom-score-adj 500 $image cat /proc/self/oom_score_adj)" 500; }
case_init() { has "$(run --init $image sh -c 'echo $$ $(tr "\0" " " < /proc/1/cmdline)')" '^[2-9] /(run/podman|dev)[/-]init '; }
case_systemd() {
  local said
  said=$(run --systemd always $image sh -c 'echo $container; mount')
  has "$said" '^(podman|oci)$'
  for m in /run /run/lock /tmp /var/log/journal; do has "$said" " $m type tmpfs"; done
  has "$said" ' /sys/fs/cgroup(/systemd)? type cgroup2? \(rw'
  is "$(p create --systemd always --name c $image true > /dev/null; p inspect --format '{{.Config.StopSignal}}' c)" 37
}
# listen FILE: appends what arrives at a socket of sd_notify's, until the line STOP
listen() {
  perl -MIO::Socket::UNIX -MSocket -e '$|=1; $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$ARGV[0]") or die; while (defined $s->recv($b, 4096)) { print "$b\n"; last if $b eq "STOP" }' "$1" > "$1.said" &
  await test -S "$1"
}
heard() { grep -q "$2" "$1.said"; }
stop_listening() { perl -MIO::Socket::UNIX -MSocket -e 'IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ARGV[0])->send("STOP")' "$1"; wait; rm "$1"*; }
case_sdnotify_by_conmon() {
  listen "$d/notify"
  NOTIFY_SOCKET=$d/notify exits 0 p run -d --name c --sdnotify conmon $image sleep 1000
  await heard "$d/notify" READY=1
  heard "$d/notify" MAINPID= || fail "$(cat "$d/notify.said")"
  stop_listening "$d/notify"
}
case_sdnotify_by_the_container() {
  listen "$d/notify"
  local send='perl -MIO::Socket::UNIX -MSocket -e '\''$a = $ENV{NOTIFY_SOCKET}; IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $a)->send("READY=1")'\'
  NOTIFY_SOCKET=$d/notify exits 0 p run -d --name c --sdnotify container -v /usr:/usr:ro $image /bin/sh -c "$send; sleep 1000"
  await heard "$d/notify" READY=1
  stop_listening "$d/notify"
}
case_sdnotify_ignored() { listen "$d/notify"; NOTIFY_SOCKET=$d/notify exits 0 run --sdnotify ignore $image sh -c 'test -z "$NOTIFY_SOCKET"'; stop_listening "$d/notify"; }

# --- Limits
root_memory() {
  background c --memory 64m --memory-swap 96m --memory-reservation 32m --memory-swappiness 10
  is "$(limit c memory memory.limit_in_bytes)" $((64 << 20))
  is "$(limit c memory memory.soft_limit_in_bytes)" $((32 << 20))
  is "$(limit c memory memory.swappiness)" 10
}
root_out_of_memory() {
  exits 137 p run --name c --memory 16m $image dd if=/dev/zero of=/dev/shm/x bs=1M count=60
}
root_cpus() {
  background c --cpus 0.5 --cpu-shares 77 --cpuset-cpus 0
  is "$(limit c cpu cpu.cfs_quota_us):$(limit c cpu cpu.cfs_period_us)" 50000:100000
  is "$(limit c cpu cpu.shares)" 77
  is "$(limit c cpuset cpuset.cpus)" 0
}
root_pids_limit() {
  background c --pids-limit 20
  is "$(limit c pids pids.max)" 20
  has "$(p exec c sh -c 'for i in $(seq 30); do sleep 5 & done; true' 2>&1)" "can.t fork"
  # (Podman before 5.5 says 0 for -1, which in the words of the runtime spec 1.3 is a limit like any other.)
}
root_update() {
  background c --memory 64m
  p update --memory 48m --cpus 0.25 --cpuset-cpus 1 c > /dev/null
  is "$(limit c memory memory.limit_in_bytes)" $((48 << 20))
  is "$(limit c cpu cpu.cfs_quota_us)" 25000
  is "$(limit c cpuset cpuset.cpus)" 1
}
root_cgroup_parent() {
  background c --cgroup-parent /given
  has "$(cat "/proc/$(pid_of c)/cgroup")" ':memory:/given/libpod-'
  remove c
  ! find /sys/fs/cgroup -path '*given/libpod-*' | grep . || fail "a cgroup is left"
}
root_stats_of_limits() {
  background c --memory 64m
  is "$(p stats --no-stream --format '{{.MemUsage}}' c | sed 's|.* / ||')" 67.11MB
}
case_cgroups_disabled() {
  background c --cgroups disabled
  is "$(p inspect --format '{{.State.CgroupPath}}' c)" ''
  ! grep -q libpod- "/proc/$(pid_of c)/cgroup" || fail "it has a cgroup"
  exits 0 p exec c true
  p kill c > /dev/null
  is "$(p wait c)" 137
}
case_cgroups_no_conmon() { exits 0 run --cgroups no-conmon $image true; }
case_cgroups_split() { exits 0 run --cgroups split $image true; }
case_cgroup_namespaces() {
  has "$(run --cgroupns private $image cat /proc/self/cgroup)" ':/$'
  has "$(run --cgroupns host $image cat /proc/self/cgroup)" '/(libpod-)?[0-9a-f]{64}$'
}

# --- Namespaces of others
ns() { readlink "/proc/self/ns/$1"; }
case_host_namespaces() {
  is "$(run --pid host --uts host --network host $image sh -c 'readlink /proc/self/ns/uts; readlink /proc/self/ns/net')" "$(ns uts)"$'\n'"$(ns net)"
  is "$(run --pid host $image readlink /proc/self/ns/pid)" "$(ns pid)"
}
# For a user Podman binds the host's /dev/mqueue, which this machine has not
root_host_ipc() { is "$(run --ipc host $image readlink /proc/self/ns/ipc)" "$(ns ipc)"; }
case_namespaces_of_a_container() {
  background c --ipc shareable
  is "$(run --pid container:c $image sh -c 'tr "\0" " " < /proc/1/cmdline')" 'sleep 1000 '
  is "$(run --ipc container:c --uts container:c --network container:c $image sh -c 'readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts; readlink /proc/self/ns/net')" \
    "$(p exec c sh -c 'readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts; readlink /proc/self/ns/net')"
}
case_ipc_none() { exits 0 run --ipc none $image sh -c '! grep " /dev/shm " /proc/mounts'; }
case_namespace_by_path() {
  background c
  local path; path=/proc/$(pid_of c)/ns
  is "$(run --uts "ns:$path/uts" --ipc "ns:$path/ipc" $image readlink /proc/self/ns/uts)" "$(p exec c readlink /proc/self/ns/uts)"
}
