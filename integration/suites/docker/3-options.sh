# shellcheck shell=bash
# What `run` can be told about the process: identity, rights and limits.

status_line() { docker run --rm "${@:2}" $image sed -n "s/^$1:\t//p" /proc/self/status; }
# refused WORDS COMMAND...: where root here lacks CAP_SYS_RESOURCE, COMMAND has to fail with WORDS, and no runtime can do better
refused() {
  if (( 0x$(awk '$1 == "CapEff:" { print $2 }' /proc/self/status) >> 24 & 1 )); then exits 0 "${@:2}"; return; fi
  if "${@:2}" > "$d/out" 2> "$d/err"; then fail "works without CAP_SYS_RESOURCE, of all things"; fi
  has "$(cat "$d/err")" "$1"
  skip "root lacks CAP_SYS_RESOURCE here: $(grep -oiE "$1" "$d/err" | head -n 1)"
}

row init '`run --init`: orphans are reaped, signals arrive'
t_init() {
  is "$(docker run --rm --init $image cat /proc/1/comm)" docker-init
  up --init -- sh -c 'echo ready; exec sleep 100000'
  await ready said ready
  docker exec box sh -c 'sleep 0.1 &'
  await "the end of the orphan" no_zombie
  docker stop -t 60 box > /dev/null
  is "$(inspect .State.ExitCode)" 143
}
no_zombie() { docker exec box sh -c '! grep -q "sleep" /proc/[3-9]*/comm && ! grep -q "State:.Z" /proc/[0-9]*/status'; }

row read_only '`run --read-only`'
t_read_only() {
  exits 1 docker run --rm --read-only $image touch /x
  has "$(cat "$d/err")" 'Read-only file system'
  exits 0 docker run --rm --read-only --tmpfs /tmp $image touch /tmp/x
}

row tmpfs '`run --tmpfs`, `--mount type=tmpfs`, with their options'
t_tmpfs() {
  has "$(docker run --rm --tmpfs /t:size=1m,mode=700,noexec $image grep ' /t ' /proc/mounts)" 'tmpfs rw,nosuid,nodev,noexec.*size=1024k,mode=700'
  has "$(docker run --rm --mount type=tmpfs,dst=/t,tmpfs-size=1m $image grep ' /t ' /proc/mounts)" 'size=1024k'
}

row cap_drop '`run --cap-drop`, `--cap-add`'
t_cap_drop() {
  is "$(status_line CapEff)" 00000000a80425fb
  is "$(status_line CapEff --cap-drop ALL)" 0000000000000000
  is "$(status_line CapBnd --cap-drop CHOWN)" 00000000a80425fa
  is "$(status_line CapEff --cap-add NET_ADMIN)" 00000000a80435fb
  is "$(status_line CapEff --cap-drop ALL --cap-add CHOWN)" 0000000000000001
}

row cap_add_all '`run --cap-add ALL`: those that there are'
t_cap_add_all() {
  exits 0 docker run --rm --cap-add ALL $image cat /proc/self/status
  has_all_capabilities "$d/out"
}

row privileged '`run --privileged`: capabilities, devices, /sys, mounts, no seccomp'
t_privileged() {
  exits 0 docker run --rm --privileged $image cat /proc/self/status
  has_all_capabilities "$d/out"
  has "$(cat "$d/out")" '^Seccomp:.0'
  exits 0 docker run --rm --privileged $image sh -ec 'mkdir /m; mount -t tmpfs tmpfs /m; touch /m/x; echo 0 > /proc/sys/kernel/domainname; ls /dev'
  has "$(cat "$d/out")" '^(kmsg|mem|loop-control)$'
  has "$(docker run --rm --privileged $image grep ' /sys ' /proc/mounts)" 'sysfs rw'
}

row seccomp '`run --security-opt seccomp=`: the default, a profile, unconfined'
t_seccomp() {
  exits 1 docker run --rm $image unshare -U true
  has "$(cat "$d/err")" 'Operation not permitted'
  is "$(status_line Seccomp) $(status_line Seccomp --security-opt seccomp=unconfined)" '2 0'
  echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}' > "$d/profile.json"
  exits 1 docker run --rm --security-opt "seccomp=$d/profile.json" $image mkdir /x
  has "$(cat "$d/err")" 'No space left on device'
}

row no_new_privileges '`run --security-opt no-new-privileges`'
t_no_new_privileges() { is "$(status_line NoNewPrivs) $(status_line NoNewPrivs --security-opt no-new-privileges)" '0 1'; }

row masked '`run`: masked and read-only paths; `--security-opt systempaths=unconfined`'
t_masked() {
  is "$(docker run --rm $image sh -c 'ls /sys/firmware /proc/acpi 2> /dev/null | grep -v : | wc -w; wc -c < /proc/timer_list')" $'0\n0'
  exits 1 docker run --rm $image sh -c 'echo 0 > /proc/sys/kernel/domainname'
  exits 0 docker run --rm --security-opt systempaths=unconfined --cap-add SYS_ADMIN $image sh -c 'echo 0 > /proc/sys/kernel/domainname'
}

row memory '`run --memory`: the limit, and the end of who exceeds it'
t_memory() {
  idle --memory 64m --memory-swap 128m --memory-reservation 32m
  is "$(limit memory.limit_in_bytes) $(limit memory.memsw.limit_in_bytes) $(limit memory.soft_limit_in_bytes)" "$((64 << 20)) $((128 << 20)) $((32 << 20))"
  exits 137 docker run --name greedy --memory 32m --memory-swap 32m $image tail /dev/zero
  await "word of the lack of memory" equals true inspect .State.OOMKilled greedy
}

row oom_kill_disable '`run --oom-kill-disable`'
t_oom_kill_disable() { idle --memory 64m --oom-kill-disable; has "$(limit memory.oom_control)" '^oom_kill_disable 1'; }

row oom_event '`run --memory`: a child is killed, and `events` has it'
t_oom_event() {
  up --memory 32m --memory-swap 32m -- sh -c 'tail /dev/zero; echo "after $?"; exec sleep 100000'
  await "the child's end" said 'after 137'
  local id; id=$(inspect .Id)
  await "the event" in_events oom
  is "$(inspect .State.Status)" running
}
in_events() { events '{{.Action}}' | grep -qx "$1"; }

row cpus '`run --cpus`, `--cpu-shares`, `--cpuset-cpus`'
t_cpus() {
  idle --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0
  is "$(limit cpu.cfs_quota_us) $(limit cpu.cfs_period_us) $(limit cpu.shares)" '50000 100000 512'
  has "$(docker exec box cat /proc/self/status)" '^Cpus_allowed_list:.0$'
}

row device_rates '`run --device-read-bps`'
t_device_rates() {
  local disk
  for disk in /dev/vda /dev/sda /dev/nvme0n1; do [ ! -b $disk ] || break; done
  [ -b $disk ] || skip "no disk here"
  idle --device-read-bps $disk:1mb
  [ "$(inspect .HostConfig.BlkioDeviceReadBps)" != '[]' ] || skip "Docker $version of Debian leaves the option out"
  has "$(limit blkio.throttle.read_bps_device)" "^[0-9]+:[0-9]+ $((1 << 20))$"
}

row pids_limit '`run --pids-limit`'
t_pids_limit() {
  idle --pids-limit 5
  is "$(limit pids.max)" 5
  exits 2 docker run --rm --pids-limit 5 $image sh -c 'for i in 1 2 3 4 5 6 7 8 9; do sleep 100000 & done; wait'
  has "$(cat "$d/err")" "can't fork"
}

row ulimit '`run --ulimit`'
t_ulimit() { is "$(docker run --rm --ulimit nofile=100:200 --ulimit core=0 $image sh -c 'ulimit -Sn; ulimit -Hn; ulimit -c')" $'100\n200\n0'; }

row ulimit_above '`run --ulimit` above the hard limit'
t_ulimit_above() {
  local hard
  hard=$(ulimit -Hu)
  [ "$hard" != unlimited ] || skip "no hard limit here"
  refused 'rlimit.*(operation )?not permitted|permission denied' docker run --rm --ulimit "nproc=$((hard + 1)):$((hard + 1))" $image true
}

row oom_score '`run --oom-score-adj`'
t_oom_score() { is "$(docker run --rm --oom-score-adj 500 $image cat /proc/self/oom_score_adj)" 500; }

row oom_score_low '`run --oom-score-adj` below the daemon'"'s"
t_oom_score_low() { refused '(oom_score_adj|process_linux).*(permission denied)' docker run --rm --oom-score-adj -900 $image true; }

row user '`run --user`, `--group-add`'
t_user() {
  is "$(docker run --rm --user 1234:100 $image sh -c 'echo $(id -u):$(id -g) $HOME')" '1234:100 /'
  is "$(docker run --rm --user app --group-add 55 $image sh -c 'echo $(id -u):$(id -g) $(id -G) $HOME')" '1000:1001 1001 55 77 /home/app'
  is "$(status_line CapEff --user app)" 0000000000000000
  exits 125 docker run --rm --user nobody-of-that-name $image true || fail "$(cat "$d/err")"
  has "$(cat "$d/err")" 'unable to find user'
}

row workdir '`run --workdir`: made where it is missing'
t_workdir() { is "$(docker run --rm --workdir /made/here $image pwd)" /made/here; }

row env '`run --env`, `--env-file`, `--entrypoint`'
t_env() {
  printf 'C=c\n' > "$d/env"
  is "$(docker run --rm -e A=b --env-file "$d/env" $image sh -c 'echo $A $C $PATH')" 'b c /bin'
  is "$(docker run --rm --entrypoint echo $image x y)" 'x y'
}

row sysctl '`run --sysctl`, and one that is nobody'"'s"' own'
t_sysctl() {
  is "$(docker run --rm --sysctl net.ipv4.ip_forward=0 --sysctl kernel.msgmax=4096 $image sh -c 'cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax')" $'0\n4096'
  exits 125 docker run --rm --sysctl kernel.pid_max=99999 $image true
  has "$(cat "$d/err")" 'not (whitelisted|in a separate kernel namespace)|sysctl'
}

row shm_size '`run --shm-size`'
t_shm_size() { has "$(docker run --rm --shm-size 3m $image grep ' /dev/shm ' /proc/mounts)" 'size=3072k'; }

row device '`run --device`, `--device-cgroup-rule`'
t_device() {
  exits 0 docker run --rm --device /dev/kmsg:/dev/k $image sh -c ': > /dev/k'
  exits 1 docker run --rm --device /dev/kmsg:/dev/k:r $image sh -c ': > /dev/k'
  has "$(cat "$d/err")" 'Operation not permitted'
  exits 1 docker run --rm $image sh -c 'mknod /k c 1 11 && : > /k'
  exits 0 docker run --rm --device-cgroup-rule 'c 1:11 rw' $image sh -c 'mknod /k c 1 11 && : > /k'
}
