# shellcheck shell=bash
# Cases of hack/containerd-suite: events, output, restarts of containerd and of the shim.

# Events: a listener that is known to hear, and the topics of container c
listen() {
  timeout 120 ctr --address $sock events > "$d/events" & events=$! # (not c: the function's shell would be killed for it)
  local i
  for i in {1..100}; do c image label $image "probe=$i" > /dev/null; [ -s "$d/events" ] && return; sleep 0.1; done
  fail "no events come"
}
await_events() { # EXPECTED TOPICS: one line
  for _ in {1..100}; do [ "$(topics)" = "$1" ] && break; sleep 0.1; done
  kill $events; wait $events || true
  is "$(topics)" "$1"
}
topics() { grep -ao '/tasks/[a-z-]* {.*' "$d/events" | grep -a '"container_id":"c"' | sed 's, .*,,; s,/tasks/,,' | paste -sd ' '; }
case_events_in_order() {
  listen
  exits 3 run --rm $image c sh -c 'exit 3'
  await_events "create start exit delete"
  grep -aq '/tasks/exit .*"exit_status":3' "$d/events" || fail "no status: $(grep -a /tasks/exit "$d/events")"
}
case_events_of_execs() {
  run -d $image c sleep 100
  listen
  for _ in 1 2 3; do exits 4 c task exec --exec-id e c sh -c 'exit 4'; done
  await_events "exec-added exec-started exit exec-added exec-started exit exec-added exec-started exit"
  remove c
}
case_events_of_the_last() {
  # The exit of init comes after those of the execs that it takes along.
  run -d $image c sleep 100
  c task exec --exec-id e c sleep 1000 > /dev/null 2>&1 & local exec=$!
  await_exec e
  listen
  c task kill -s SIGKILL c
  wait $exec || true
  await_events "exit exit"
  [[ $(grep -a /tasks/exit "$d/events" | tail -n 1) = *'"id":"c"'* ]] || fail "init's exit was not the last: $(grep -a /tasks/exit "$d/events")"
  await_state c STOPPED
  removal_says 137
}
case_events_of_pause() {
  run -d $image c sleep 100
  listen
  c task pause c; c task resume c
  await_events "paused resumed"
  remove c
}
case_out_of_memory() {
  listen
  exits 137 run --rm --memory-limit 16777216 $image c tail /dev/zero
  for _ in {1..100}; do grep -aq '/tasks/oom .*"container_id":"c"' "$d/events" && break; sleep 0.1; done
  kill $events; wait $events || true
  grep -aq '/tasks/oom .*"container_id":"c"' "$d/events" || fail "no event: $(topics)"
}

case_stalled_stdout() {
  # Nobody reads what the task writes: it can be killed all the same, and its exit is known.
  mkfifo "$d/stalled"
  sleep 1000 < "$d/stalled" & local reader=$!
  run $image c dd if=/dev/zero bs=1M > "$d/stalled" 2> /dev/null & local writer=$! rc=0
  await_state c RUNNING
  sleep 1 # long enough to fill what there is of pipes; correct without
  c task kill -s SIGKILL c
  await_state c STOPPED
  kill $reader; wait $reader 2> /dev/null || true # its end lets ctr go
  wait $writer || rc=$?
  rm "$d/stalled"
  [ $rc != 0 ] || fail "ctr says that all is well"
  remove c
}
case_slow_reader() { is "$(run --rm $image c sh -c 'dd if=/dev/zero bs=64k count=32 2> /dev/null; exit 0' | (sleep 1; wc -c))" $((2 << 20)); }
case_log_file() {
  run -d --log-uri "file://$d/some.log" $image c sh -c 'echo out; echo err >&2; dd if=/dev/zero bs=1M count=5 2> /dev/null; echo; echo end'
  await_state c STOPPED
  removal_says 0
  is "$(grep -av '^.\{5000\}' "$d/some.log" | sort | tr -d '\0' | grep . | paste -sd ' ')" "end err out"
  is "$(stat -c %s "$d/some.log")" $((5 * 1024 * 1024 + 4 + 4 + 1 + 4))
}
case_log_program() {
  # A logger gets stdout as descriptor 3, stderr as 4, and says by closing 5 that it is ready.
  # (containerd asks that it ends after the task: what it writes is complete when the task is gone.)
  cat > "$d/bin/logger" <<END_OF_LOGGER
#!/bin/bash
exec 5>&-
cat <&4 > "$d/logged.err" &
cat <&3 > "$d/logged.out"
wait
END_OF_LOGGER
  chmod +x "$d/bin/logger"
  run -d --log-uri "binary://$d/bin/logger" $image c sh -c 'echo out; echo err >&2; exit 2'
  await_state c STOPPED
  removal_says 2
  for _ in {1..50}; do [ -s "$d/logged.out" ] && [ -s "$d/logged.err" ] && break; sleep 0.1; done
  is "$(cat "$d/logged.out")" out
  is "$(cat "$d/logged.err")" err
}
case_output_of_a_short_task_is_complete() {
  local i
  for i in {1..10}; do is "$(run --rm $image c sh -c 'seq 1000' | tail -n 1)" 1000; done
}

restart() { containerd_stop "$1"; containerd_start; }
case_restart_while_running() {
  # The same task, and everything that can be done with it, after containerd came back.
  run -d $image c sh -c 'trap "exit 5" TERM; while :; do sleep 0.1; done'
  await_state c RUNNING
  local pid; pid=$(c task ls | awk '$1 == "c" { print $2 }')
  restart TERM
  is "$(c task ls | awk '$1 == "c" { print $2 " " $3 }')" "$pid RUNNING"
  listen
  is "$(c task exec --exec-id e c echo in)" in
  c task kill -s SIGTERM c
  await_events "exec-added exec-started exit exit"
  await_state c STOPPED
  removal_says 5
}
case_exit_while_containerd_is_away() {
  if [ $shim = containerd-shim-runc-v2 ] && [ $version != 1.6 ]; then
    skip "containerd since 1.7 takes a stopped task of runc's shim for a leaked one when it starts"
  fi
  run -d $image c sleep 1
  run -d $image d sh -c 'sleep 1; exit 6'
  containerd_stop KILL
  for _ in {1..100}; do [ -n "$(ps -e -o args= | grep -E '^(sleep 1|sh -c sleep 1; exit 6)$')" ] || break; sleep 0.1; done
  containerd_start
  await_state c STOPPED
  await_state d STOPPED
  removal_says 0
  exits 0 c task rm d
  grep -q 'exit code 6' "$d/err" || fail "$(cat "$d/err")"
  c container rm d
}
case_shim_killed() {
  # containerd finds out, calls the shim's `delete`, and the container's processes are gone.
  run -d $image c sleep 12345
  await_state c RUNNING
  local pid; pid=$(c task ls | awk '$1 == "c" { print $2 }')
  kill -KILL "$(awk '/^PPid/ { print $2 }' "/proc/$pid/status")"
  for _ in {1..100}; do [ -e "/proc/$pid" ] || break; sleep 0.1; done
  [ ! -e "/proc/$pid" ] || fail "the container outlives its shim's cleanup"
  for _ in {1..100}; do c task rm -f c > /dev/null 2>&1 || true; [ -n "$(c task ls -q)" ] || break; sleep 0.1; done
  is "$(c task ls -q)" ''
  c container rm c
  is "$(run --rm $image c echo again)" again
}
case_orphans_are_reaped() {
  # In the host's PID namespace, orphans become the shim's children.
  run -d --privileged $image c sleep 100
  local pid shim_pid; pid=$(c task ls | awk '$1 == "c" { print $2 }'); shim_pid=$(awk '/^PPid/ { print $2 }' "/proc/$pid/status")
  local i; for i in {1..5}; do c task exec --exec-id "e$i" c sh -c 'sleep 0.2 & exit 0'; done
  for _ in {1..100}; do
    [ -n "$(awk '/^State:\tZ/ { z = 1 } /^PPid/ && z { print $2 }' /proc/[0-9]*/status 2> /dev/null | grep -x "$shim_pid")" ] || break
    sleep 0.1
  done
  is "$(awk '/^State:\tZ/ { z = 1 } /^PPid/ { if (z) print $2; z = 0 }' /proc/[0-9]*/status 2> /dev/null | grep -xc "$shim_pid" || true)" 0
  remove c
}
