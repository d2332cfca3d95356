# shellcheck shell=bash
# Cases of hack/containerd-suite: what `ctr run` has options for.

case_foreground_0() { exits 0 run --rm $image c echo hello; is "$(cat "$d/out")" hello; }
case_foreground_7() { exits 7 run --rm $image c sh -c 'exit 7'; }
case_stdin() {
  # An end of input before the task runs is lost by ctr 1.6, with every runtime: give it later.
  exits 0 run --rm $image c cat < <(await_state c RUNNING; sleep 1; printf 'one\ntwo\n')
  is "$(cat "$d/out")" $'one\ntwo'
}
case_stdout_and_stderr() {
  exits 3 run --rm $image c sh -c 'echo out; echo err >&2; exit 3'
  is "$(cat "$d/out")" out
  is "$(cat "$d/err")" err
}
case_large_output() { is "$(run --rm $image c dd if=/dev/zero bs=1M count=20 2> "$d/err" | wc -c)" $((20 << 20)); }
case_env_and_cwd() { is "$(run --rm --env A=b --cwd /tmp $image c sh -c 'echo $A $(pwd) $(id -u)')" "b /tmp 0"; }
case_defaults_inside() {
  # ctr generates what Docker does: namespaces, masks, few capabilities, no_new_privs
  is "$(run --rm $image c sh -c 'echo $$; ls /sys/firmware | wc -l')" $'1\n0'
  is "$(run --rm $image c sh -c 'grep CapEff /proc/self/status')" $'CapEff:\t00000000a80425fb'
  is "$(run --rm $image c grep NoNewPrivs /proc/self/status)" $'NoNewPrivs:\t1'
}
case_read_only() { exits 1 run --rm --read-only $image c touch /x; grep -q 'Read-only file system' "$d/err" || fail "$(cat "$d/err")"; }
case_bind_mount() {
  mkdir -p "$d/share"; echo given > "$d/share/f"
  is "$(run --rm --mount "type=bind,src=$d/share,dst=/mnt,options=rbind:ro" $image c sh -c 'cat /mnt/f; touch /mnt/g 2> /dev/null || echo ro')" $'given\nro'
}
case_host_network() { is "$(run --rm --net-host $image c readlink /proc/self/ns/net)" "$(readlink /proc/self/ns/net)"; }
case_privileged() { exits 0 run --rm --privileged $image c true; }
case_seccomp() { exits 9 run --rm --seccomp $image c sh -c 'unshare -U true || exit 9'; is "$(run --rm --seccomp $image c echo fine)" fine; }
case_memory_limit() { exits 0 run --rm --memory-limit 67108864 $image c true; }
case_terminal() {
  # ctr wants a terminal of its own: script makes one, and hands the exit status on
  local rc=0 text
  text=$(timeout 60 script -qec "ctr --address $sock run --rm -t ${below[*]} $image c sh -c 'tty; test -t 0 && test -t 2 && echo all; exit 5'" /dev/null < <(sleep 20)) || rc=$?
  is "$(tr -d '\r' <<< "$text" | grep -v '^$\|resize pty')" $'/dev/pts/0\nall'
  is $rc 5
}
case_detached() {
  run -d $image c sleep 100
  await_state c RUNNING
  local pid; pid=$(c task ls | awk '$1 == "c" { print $2 }')
  grep -q sleep "/proc/$pid/cmdline" || fail "the pid that task ls prints is no sleep"
  exits 1 c container rm c # of a running task
  c task kill -s SIGKILL c
  await_state c STOPPED
  removal_says 137
  is "$(c task ls -q)$(c container ls -q)" ''
}
case_signal_reaches_the_program() {
  mkdir -p "$d/share"; rm -f "$d/share/ready"
  run -d --mount "type=bind,src=$d/share,dst=/mnt,options=rbind" $image c sh -c 'trap "exit 5" TERM; echo > /mnt/ready; while :; do sleep 0.1; done'
  for _ in {1..150}; do [ ! -e "$d/share/ready" ] || break; sleep 0.1; done
  c task kill -s SIGTERM c
  await_state c STOPPED
  removal_says 5
}
case_create_then_start() {
  c container create $image c cat /etc/passwd /absent # (its -c would be taken for ctr's own)
  is "$(c container ls -q)" c
  exits 1 c task start c
  is "$(head -n 1 "$d/out")" root:x:0:0:root:/root:/bin/sh
  remove c
}
case_kill_of_a_stopped_task() {
  run -d $image c true
  await_state c STOPPED
  exits 1 c task kill c
  grep -q 'process already finished\|not found' "$d/err" || fail "$(cat "$d/err")"
  removal_says 0
}
case_force_removal_of_a_running_task() {
  run -d $image c sleep 100
  await_state c RUNNING
  removal_says 137 -f
}
case_no_such_command() {
  # Docker's 126 and 127 come from Go's exact words. (crun's are others.)
  exits 1 run --rm $image c no-such-command
  grep -q 'exec: "no-such-command": executable file not found in \$PATH' "$d/err" || fail "$(cat "$d/err")"
  exits 1 run --rm $image c /etc/passwd
  grep -q 'permission denied' "$d/err" || fail "$(cat "$d/err")"
  is "$(c task ls -q)$(c container ls -q)" ''
}
case_twenty_in_sequence() { local i; for i in {1..20}; do exits "$i" run --rm $image c sh -c "exit $i"; done; }
case_ten_in_parallel() {
  local i pids=() rcs=''
  for i in {1..10}; do run --rm $image "c$i" sh -c "echo $i; exit $i" > "$d/out.$i" 2>&1 & pids+=($!); done
  for i in {1..10}; do wait "${pids[i - 1]}" && rcs+="0 " || rcs+="$? "; done
  is "$rcs" "1 2 3 4 5 6 7 8 9 10 "
  for i in {1..10}; do is "$(cat "$d/out.$i")" "$i"; done
}

case_exec() {
  needs exec
  run -d $image c sleep 100
  is "$(c task exec --exec-id e c sh -c 'echo in; tr "\0" " " < /proc/1/cmdline')" $'in\nsleep 100 '
  exits 6 c task exec --exec-id e c sh -c 'exit 6'
  remove c
}
case_ps() {
  needs ps
  run -d $image c sleep 100
  is "$(c task ps c | wc -l)" 2
  remove c
}
case_pause_and_resume() {
  needs pause
  run -d $image c sleep 100
  c task pause c; is "$(task_state c)" PAUSED
  c task resume c; is "$(task_state c)" RUNNING
  remove c
}
case_metrics() { run -d $image c sleep 100; grep -q '^memory' <<< "$(c task metrics c)" || fail "no memory in the metrics"; remove c; }

case_terminal_size() {
  # The first size, and each later one, goes to the task's terminal.
  local text
  text=$(timeout 60 script -qec "stty rows 33 cols 77; ctr --address $sock run --rm -t ${below[*]} $image c sh -c 'i=0; until [ \"\$(stty size 2> /dev/null)\" = \"33 77\" ] || [ \$i = 100 ]; do i=\$((i + 1)); sleep 0.1; done; stty size'" /dev/null < <(sleep 20))
  is "$(tr -d '\r' <<< "$text" | grep -v '^$')" "33 77"
}
case_user() { option --user; is "$(run --rm --user user $image c sh -c 'id -u; id -g')" $'1000\n1000'; }
case_hostname() { option --hostname; is "$(run --rm --hostname some $image c hostname)" some; }
case_capabilities() {
  is "$(run --rm --cap-add CAP_SYS_ADMIN --cap-drop CAP_CHOWN $image c grep CapEff /proc/self/status)" $'CapEff:\t00000000a82425fa'
}
case_user_namespace() {
  # with a snapshot of its own, whose owners are shifted
  local rc=0
  run --rm --uidmap 0:100000:65536 --gidmap 0:100000:65536 $image c sh -c 'tr -s " " < /proc/self/uid_map; id -u; stat -c %u /bin' > "$d/out" 2> "$d/err" || rc=$?
  ! grep -q 'user namespaces are not supported yet' "$d/err" || skip "the runtime has no user namespaces yet"
  [ $rc = 0 ] || fail "$(tail -n 1 "$d/err")"
  is "$(cat "$d/out")" $' 0 100000 65536\n0\n0'
}
case_pid_file() {
  run -d --pid-file "$d/pid" $image c sleep 100
  is "$(cat "$d/pid")" "$(c task ls | awk '$1 == "c" { print $2 }')"
  remove c
}
case_root_without_an_image() { is "$(run --rm --rootfs "$d/unpacked/rootfs" c /bin/echo fine)" fine; }
case_joined_namespace() {
  run -d $image a sleep 100
  local pid; pid=$(c task ls | awk '$1 == "a" { print $2 }')
  is "$(run --rm --with-ns "network:/proc/$pid/ns/net" $image c readlink /proc/self/ns/net)" "$(readlink "/proc/$pid/ns/net")"
  remove a
}
case_cgroup_of_choice() { is "$(run --rm --cgroup /suite-chosen/c $image c grep -c suite-chosen/c /proc/self/cgroup | sed 's/^[1-9][0-9]*$/some/')" some; for_cgroups suite-chosen; }
# ctr and runtimes leave the parents of a cgroup: tidy up.
for_cgroups() { local m; while read -r m _; do [ ! -d "$m/$1" ] || rmdir "$m/$1"; done < <(sandbox_hierarchies); }
