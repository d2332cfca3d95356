# shellcheck shell=bash
# Cases of hack/containerd-suite: what is done with a task that runs.

case_exec_stdin() {
  run -d $image c sleep 100
  is "$(c task exec --exec-id e c cat < <(await_exec e; sleep 1; printf 'one\ntwo\n'))" $'one\ntwo'
  remove c
}
case_exec_terminal() {
  local rc=0 text
  run -d $image c sleep 100
  text=$(timeout 60 script -qec "ctr --address $sock task exec -t --exec-id e c sh -c 'tty; test -t 0 && test -t 2 && echo all; exit 5'" /dev/null < <(sleep 20)) || rc=$?
  is "$(tr -d '\r' <<< "$text" | grep -v '^$\|resize pty')" $'/dev/pts/0\nall'
  is $rc 5
  remove c
}
case_exec_cwd_and_user() {
  run -d $image c sleep 100
  is "$(c task exec --exec-id e --cwd /tmp --user 1000 c sh -c 'pwd; id -u')" $'/tmp\n1000'
  remove c
}
case_exec_of_no_such_command() {
  run -d $image c sleep 100
  exits 1 c task exec --exec-id e c no-such-command
  grep -q 'exec: "no-such-command": executable file not found in \$PATH' "$d/err" || fail "$(cat "$d/err")"
  is "$(c task exec --exec-id e c echo again)" again # the id is free
  remove c
}
case_exec_output_of_20_mb() {
  run -d $image c sleep 100
  is "$(c task exec --exec-id e c dd if=/dev/zero bs=1M count=20 2> "$d/err" | wc -c)" $((20 << 20))
  remove c
}
await_exec() { local i; for i in {1..100}; do grep -q "$1" <<< "$(c task ps c)" && return; sleep 0.1; done; fail "no process of exec $1"; }
case_exec_killed() {
  run -d $image c sleep 100
  c task exec --exec-id e c sleep 1000 > /dev/null 2>&1 & local exec=$! rc=0
  await_exec e
  c task kill --exec-id e -s SIGTERM c
  wait $exec || rc=$?
  is $rc 143
  is "$(task_state c)" RUNNING
  remove c
}
case_exec_real_time_signal() {
  # Signal numbers that have no name in most libraries.
  run -d $image c sleep 100
  c task exec --exec-id e c sleep 1000 > /dev/null 2>&1 & local exec=$! rc=0
  await_exec e
  c task kill --exec-id e -s 37 c
  wait $exec || rc=$?
  is $rc 165
  is "$(c task exec --exec-id f c echo alive)" alive
  remove c
}
case_exec_duplicate_id() {
  run -d $image c sleep 100
  c task exec --exec-id e c sleep 1000 > /dev/null 2>&1 & local exec=$! rc=0
  await_exec e
  exits 1 c task exec --exec-id e c true
  grep -q 'already exists' "$d/err" || fail "$(cat "$d/err")"
  c task kill --exec-id e -s SIGKILL c # the first is still there
  wait $exec || rc=$?
  is $rc 137
  remove c
}
case_exec_detached() {
  run -d $image c sleep 100
  c task exec -d --exec-id e c sleep 1000
  await_exec e
  c task kill --exec-id e -s SIGKILL c
  c task rm --exec-id e c > "$d/out" 2>&1 || true
  remove c
}
case_exec_in_a_stopped_task() {
  run -d $image c true
  await_state c STOPPED
  exits 1 c task exec --exec-id e c true
  removal_says 0
}
case_execs_in_parallel() {
  local i pids=() rcs=''
  run -d $image c sleep 100
  for i in {1..10}; do c task exec --exec-id "e$i" c sh -c "echo $i; exit $i" > "$d/out.$i" 2>&1 & pids+=($!); done
  for i in {1..10}; do wait "${pids[i - 1]}" && rcs+="0 " || rcs+="$? "; done
  is "$rcs" "1 2 3 4 5 6 7 8 9 10 "
  for i in {1..10}; do is "$(cat "$d/out.$i")" "$i"; done
  remove c
}
case_execs_end_with_the_task() {
  run -d $image c sleep 100
  c task exec --exec-id e c sleep 1000 > /dev/null 2>&1 & local exec=$! rc=0
  await_exec e
  c task kill -s SIGKILL c
  wait $exec || rc=$?
  is $rc 137
  await_state c STOPPED
  removal_says 137
}
case_kill_all() {
  run -d $image c sh -c 'sleep 1000 & trap "exit 3" TERM; wait'
  await_state c RUNNING
  for _ in {1..100}; do [ "$(c task ps c | wc -l)" = 3 ] && break; sleep 0.1; done
  c task kill -a -s SIGKILL c
  await_state c STOPPED
  removal_says 137
}
case_kill_of_no_such_task() { exits 1 c task kill nobody; grep -q 'not found' "$d/err" || fail "$(cat "$d/err")"; }
case_real_time_signal() {
  run -d $image c sh -c 'sleep 1000; exit 0' # the shell is PID 1: a signal at its default does not reach it
  await_state c RUNNING
  c task kill -s 37 c
  is "$(task_state c)" RUNNING
  removal_says 137 -f
}
case_attach() {
  # The program writes once somebody attached: what was written before is gone with its reader.
  mkdir -p "$d/share"; rm -f "$d/share/go"
  run -d --mount "type=bind,src=$d/share,dst=/mnt,options=rbind" $image c sh -c 'until [ -e /mnt/go ]; do sleep 0.1; done; echo attached; exit 4'
  local rc=0
  ctr --address $sock task attach c > "$d/out" 2> "$d/err" < <(sleep 20) & local attach=$!
  for _ in {1..150}; do [[ $(ls -l /proc/$attach/fd 2> /dev/null) != */c-stdout* ]] || break; sleep 0.1; done
  touch "$d/share/go"
  wait $attach || rc=$?
  is $rc 4
  is "$(cat "$d/out")" attached
  c container rm c # ctr's attach has removed the task
}
case_pause_stops_everything() {
  mkdir -p "$d/share"; : > "$d/share/count"
  run -d --mount "type=bind,src=$d/share,dst=/mnt,options=rbind" $image c sh -c 'while :; do echo >> /mnt/count; sleep 0.02; done'
  for _ in {1..100}; do [ -s "$d/share/count" ] && break; sleep 0.1; done
  c task pause c
  local before; before=$(stat -c %s "$d/share/count")
  exits 1 c task exec --exec-id e c true # nothing starts in a frozen container
  is "$(stat -c %s "$d/share/count")" "$before"
  c task resume c
  for _ in {1..100}; do [ "$(stat -c %s "$d/share/count")" != "$before" ] && break; sleep 0.1; done
  [ "$(stat -c %s "$d/share/count")" != "$before" ] || fail "it does not go on"
  remove c
}
case_kill_of_a_paused_task() {
  run -d $image c sleep 100
  c task pause c
  c task kill -s SIGKILL c || true # (what a signal does to the frozen differs by cgroup version)
  c task resume c 2> /dev/null || true
  await_state c STOPPED
  removal_says 137
}
case_ps_names_execs() {
  run -d $image c sleep 100
  c task exec --exec-id some-exec c sleep 1000 > /dev/null 2>&1 & local exec=$!
  await_exec some-exec
  is "$(c task ps c | wc -l)" 3
  c task kill --exec-id some-exec -s SIGKILL c
  wait $exec || true
  remove c
}
case_metrics_count() {
  run -d --memory-limit 67108864 $image c sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; sleep 100'
  for _ in {1..100}; do
    c task metrics --format json c > "$d/out"
    # nanoseconds of a processor, and the limit just set
    [ "$(grep -oE '"(total|usage_usec)": ?"?[0-9]+' "$d/out" | grep -oE '[0-9]+$' | sort -n | tail -n 1)" -gt 10000000 ] && break
    sleep 0.1
  done
  grep -q 67108864 "$d/out" || fail "no limit: $(head -c 300 "$d/out")"
  remove c
}
case_update() {
  run -d --memory-limit 67108864 $image c sleep 100
  rpc containerd.services.tasks.v1.Tasks/Update 'container_id: "c"
    resources { type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources" value: "{\"memory\":{\"limit\":33554432}}" }'
  c task metrics --format json c > "$d/out"
  grep -q 33554432 "$d/out" || fail "the limit is not what was asked for: $(head -c 300 "$d/out")"
  exits 1 rpc containerd.services.tasks.v1.Tasks/Update 'container_id: "c"
    resources { type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources" value: "{\"pids\":{\"limit\":\"many\"}}" }'
  is "$(task_state c)" RUNNING
  remove c
}
case_delete_of_a_running_task_is_refused() {
  # (ctr itself would not even ask)
  run -d $image c sleep 100
  exits 1 rpc containerd.services.tasks.v1.Tasks/Delete 'container_id: "c"'
  grep -q 'FAILED_PRECONDITION\|cannot delete a running process' "$d/err" || fail "$(cat "$d/err")"
  is "$(task_state c)" RUNNING
  remove c
}
case_checkpoint() {
  run -d $image c sleep 100
  if [ "$shim" = containerd-shim-runc-v2 ]; then
    exits 1 c task checkpoint --image-path "$d/checkpoint" c # no CRIU here, or none in the runtime
  else
    exits 1 c task checkpoint --image-path "$d/checkpoint" c
    grep -qi 'not implemented' "$d/err" || fail "$(cat "$d/err")"
  fi
  for _ in {1..50}; do [ "$(task_state c)" = RUNNING ] && break; sleep 0.1; done
  is "$(task_state c)" RUNNING
  remove c
}
