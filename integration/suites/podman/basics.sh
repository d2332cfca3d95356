# shellcheck shell=bash
# Podman's verbs on single containers.

# background NAME [OPTIONS...]: a container that waits to be killed
background() { p run -d --name "$@" $image sleep 1000 > /dev/null; }
# patient NAME [OPTIONS...]: one that ends with 5 at SIGTERM, and has said that it is ready for that
patient() {
  p run -d --name "$@" $image sh -c 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done' > /dev/null
  await logs_have "$1" ready
}

# remove NAME: where a container was restarted, Podman's own cleaning up races with a removal, with every runtime: the
# mount of /dev/shm is busy then.
remove() { await removed "$1"; }
removed() { p rm -f -t 0 "$1" || ! p container exists "$1"; }

case_run_output() { exits 0 run $image echo hello; is "$(cat "$d/out")" hello; }
case_run_status() { exits 7 run $image sh -c 'exit 7'; }
case_run_stdin() { is "$(printf 'one\ntwo\n' | run -i $image cat)" $'one\ntwo'; }
case_run_stdout_and_stderr() {
  exits 3 run $image sh -c 'echo out; echo err >&2; exit 3'
  is "$(cat "$d/out")" out
  is "$(cat "$d/err")" err
}
case_run_large_output() { is "$(run $image dd if=/dev/zero bs=1M count=20 2> "$d/err" | wc -c)" $((20 << 20)); }
case_run_killed_by_a_signal() {
  exits 137 run --init $image sh -c 'kill -KILL $$'
  exits 143 run --init $image sh -c 'kill -TERM $$'
}
case_run_environment() {
  is "$(run -e A=b -w /tmp -u 1:29 --hostname box $image sh -c 'echo $A $(pwd) $(id -u):$(id -g) $(hostname)')" "b /tmp 1:29 box"
  is "$(run --umask 0027 --group-add audio $image sh -c 'umask; id -G')" $'0027\n0 29'
  is "$(run --entrypoint /bin/echo $image entry)" entry
  is "$(run --env-host=false $image sh -c 'echo $HOME')" /root
}
case_run_terminal() {
  local rc=0 text
  text=$(set -o pipefail; terminal "podman --runtime $runtime run --rm -it $image sh -c 'tty; test -t 0 && test -t 2 && echo all; exit 5'" <&9) || rc=$?
  has "$text" '/dev/pts/0'
  has "$text" '^all$'
  is $rc 5
}
case_run_terminal_input() {
  local text
  text=$({ await in_state c running; printf 'echo $((6 * 7))\nstty size\nexit\n'; } | terminal "stty rows 33 cols 99; podman --runtime $runtime run --name c -it $image sh")
  has "$text" '^42$'
  has "$text" '^33 99$'
}
case_run_cidfile_and_pidfile() {
  background c --cidfile "$d/cid" --pidfile "$d/pid" --conmon-pidfile "$d/conmon"
  is "$(cat "$d/cid")" "$(p inspect --format '{{.Id}}' c)"
  is "$(cat "$d/pid")" "$(pid_of c)"
  is "$(tr '\0' ' ' < "/proc/$(cat "$d/pid")/cmdline")" "sleep 1000 "
  rm "$d"/{cid,pid,conmon}
}
case_run_preserve_fds() { is "$(run --preserve-fds 1 $image cat /proc/self/fd/3 3<<< handed)" handed; }
case_run_replace_and_rename() {
  background c --stop-signal KILL
  exits 125 p run --name c $image true
  exits 0 p run --name c --replace $image true
  exits 0 p rename c e
  exits 1 p container exists c
  exits 0 p container exists e
}
case_run_timeout() { exits 255 run --timeout 1 $image sleep 1000; }

# --- What cannot be run: Podman makes the exit status from the words of the runtime's error.
case_status_125() { exits 125 run --no-such-option $image true; exits 125 run --pull never localhost/absent:latest true; }
case_status_126() {
  exits 126 run $image /etc/passwd; says 'permission denied'
  exits 126 run $image /etc; says 'permission denied|is a directory'
  is "$(p ps -aq)" ''
}
case_status_127() {
  exits 127 run $image no-such-command; says 'executable file.*not found'
  exits 127 run $image /no/such/command; says 'no such file or directory'
  is "$(p ps -aq)" ''
}
case_status_of_start() {
  p create --name c $image no-such-command
  exits 125 p start c
  says 'executable file.*not found'
  in_state c created || in_state c exited || fail "the container is $(state c)"
}

# --- From create to rm
case_create_start_stop() {
  p create --name c $image sh -c 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done' > /dev/null
  in_state c created
  p start c
  await logs_have c ready
  in_state c running
  p stop -t 30 c
  in_state c exited
  is "$(p inspect --format '{{.State.ExitCode}}' c)" 5
  p start c
  in_state c running
  remove c
  is "$(p ps -aq)" ''
}
case_start_attached() {
  p create --name c $image sh -c 'echo attached; exit 4' > /dev/null
  exits 4 p start -a c
  is "$(cat "$d/out")" attached
  exits 4 p start -a c
}
case_init_then_start() {
  p create --name c $image echo begun > /dev/null
  p init c
  in_state c initialized
  is "$(p logs c)" ''
  p start c
  is "$(p wait c)" 0
  is "$(p logs c)" begun
}
case_stop_kills_after_its_time() {
  p run -d --name c $image sh -c 'trap "" TERM; echo ready; while :; do sleep 0.1; done' > /dev/null
  await logs_have c ready
  p stop -t 1 c
  is "$(p inspect --format '{{.State.ExitCode}}' c)" 137
}
case_stop_signal() {
  p run -d --name c --stop-signal USR1 $image sh -c 'trap "exit 6" USR1; echo ready; while :; do sleep 0.1; done' > /dev/null
  await logs_have c ready
  p stop -t 30 c
  is "$(p inspect --format '{{.State.ExitCode}}' c)" 6
}
case_restart() {
  patient c
  local pid; pid=$(pid_of c)
  p restart -t 30 c
  in_state c running
  [ "$(pid_of c)" != "$pid" ] || fail "the same process"
}
case_restart_policy() {
  p run -d --name c --restart on-failure:2 -v "$d:/d" $image sh -c 'echo x >> /d/tries; exit 3' > /dev/null
  three_tries() { [ "$(wc -l < "$d/tries")" = 3 ]; }
  await three_tries
  await in_state c exited
  is "$(p inspect --format '{{.State.ExitCode}} {{.RestartCount}}' c)" "3 2"
  rm "$d/tries"
}
case_restart_always() {
  patient c --restart always
  local pid; pid=$(pid_of c)
  kill -KILL "$pid"
  another() { [ "$(pid_of c)" != "$pid" ] && in_state c running; }
  await another
}
case_kill() {
  patient c
  p kill -s TERM c
  is "$(p wait c)" 5
  exits 125 p kill c
  says 'can only kill running containers'
  background f
  p kill f
  is "$(p wait f)" 137
}
case_wait() {
  p run -d --name c $image sh -c 'read x < /tmp/x || exit 9' > /dev/null
  is "$(p wait c)" 9
  background e
  p wait --condition running e
}
case_rm() {
  background c
  exits 2 p rm c; says 'cannot remove container'
  p rm -f -t 0 c
  p create --name c $image true
  p rm c
  is "$(p ps -aq)" ''
}
case_rm_of_exited_and_prune() {
  p run --name c $image true
  p run --name e $image true
  p rm c
  p container prune -f
  is "$(p ps -aq)" ''
}
case_pause_and_unpause() {
  background c
  p pause c
  in_state c paused
  exits 255 p exec c true
  p unpause c
  in_state c running
  exits 0 p exec c true
  p pause -a; in_state c paused
  remove c
}
case_logs() {
  p run -d --name c $image sh -c 'echo one; echo two >&2; sleep 0.2; echo three' > /dev/null
  is "$(p wait c)" 0
  is "$(p logs c 2> /dev/null)" $'one\nthree'
  is "$(p logs --tail 1 c 2>&1)" three
  exits 0 p logs -f c
}
case_logs_of_other_drivers() {
  p run --log-driver none --name c $image echo nothing > /dev/null
  exits 125 p logs c
  p run --log-driver json-file --name e $image echo json > /dev/null
  is "$(p logs e)" json
}
case_attach() {
  p run -d -i --name c $image sh -c 'while read l; do echo "<$l>"; [ "$l" = end ] && exit 8; done' > /dev/null
  is "$({ echo first; echo end; } | p attach c)" $'<first>\n<end>'
  is "$(p wait c)" 8
}
case_attach_a_terminal_and_detach() {
  p run -dit --name c $image sh > /dev/null 2>&1
  rm -f "$d/detached"
  {
    printf 'echo $((40 + 2))\n'
    await logs_have c '^42'
    # Podman wants to read each key by itself
    until [ -e "$d/detached" ]; do printf '\x10'; sleep 0.3; printf '\x11'; sleep 0.7; done
  } | { terminal "podman --runtime $runtime attach c"; touch "$d/detached"; } > "$d/out"
  has "$(cat "$d/out")" '^42$'
  in_state c running
}
case_ps() {
  background c --label l=v
  has "$(p ps --format '{{.Names}} {{.Status}} {{.Labels.l}}')" '^c Up .* v$'
  is "$(p ps --ns --format '{{.Namespaces.MNT}}')" "$(p unshare readlink "/proc/$(pid_of c)/ns/mnt" 2> /dev/null | tr -dc 0-9 || readlink "/proc/$(pid_of c)/ns/mnt" | tr -dc 0-9)"
  is "$(p ps -a --filter status=exited -q)" ''
}
case_inspect() {
  background c --memory-swappiness -1
  is "$(p inspect --format '{{.OCIRuntime}} {{.State.Running}} {{.Name}}' c)" "$runtime true c"
  is "$(p inspect --format '{{.State.OciVersion}}' c | grep -c '^1\.')" 1
}
case_events() {
  background c
  p exec c true
  remove c
  local said; said=$(p events --stream=false --since 10m --filter container=c --format '{{.Status}}' | sort -u | tr '\n' ' ')
  has "$said" 'create.*died.*exec.*init.*remove.*start'
}
case_top() {
  background c
  is "$(p top c pid comm | tail -n +2 | tr -s ' ')" "1 sleep"
}
case_diff() {
  p run --name c $image sh -c 'echo x > /new; rm /etc/group'
  # of `diff c` an image could be meant whose id begins with c
  local said; said=$(p container diff c)
  has "$said" '^A /new$'
  has "$said" '^D /etc/group$'
}
case_cp() {
  background c
  echo given > "$d/given"
  p cp "$d/given" c:/tmp/in
  is "$(p exec c cat /tmp/in)" given
  p exec c sh -c 'echo back > /tmp/out'
  p cp c:/tmp/out "$d/back"
  is "$(cat "$d/back")" back
  tar -C "$d" -c given | p cp - c:/
  is "$(p exec c cat /given)" given
}
case_export_and_import() {
  p run --name c $image sh -c 'echo kept > /kept'
  p export c | tar -t > "$d/out"
  grep -qx kept "$d/out" || fail "no file in the archive"
  p export c | p import - localhost/imported:latest
  is "$(run localhost/imported:latest /bin/cat /kept)" kept
  p rmi -f localhost/imported:latest
}
case_commit() {
  p run --name c $image sh -c 'echo kept > /kept'
  p commit -q --change 'CMD cat /kept' c localhost/committed:latest
  is "$(run localhost/committed:latest)" kept
  background e
  p commit -q -p e localhost/committed:latest # paused meanwhile
  in_state e running
  p rmi -f localhost/committed:latest
}
root_mount() {
  background c
  local m; m=$(p mount c)
  is "$(cat "$m/etc/group" | head -1)" root:x:0:
  p umount c
}
case_clone() { background c; p container clone --run c e > /dev/null; in_state e running; }
case_healthcheck() {
  background c --health-cmd 'test -f /tmp/healthy' --health-interval disable --health-retries 1
  exits 1 p healthcheck run c
  is "$(p inspect --format '{{.State.Health.Status}}' c)" unhealthy
  p exec c touch /tmp/healthy
  exits 0 p healthcheck run c
  is "$(p inspect --format '{{.State.Health.Status}}' c)" healthy
}
case_stats() {
  background c
  # (The user's cgroups have no controller that counts processes.)
  has "$(p stats --no-stream --format '{{.Name}} {{.PIDs}}' c)" "^c $([ -n "$rootless" ] || echo 1)"
}
case_secret() {
  printf hush | p secret create s - > /dev/null
  is "$(run --secret s $image cat /run/secrets/s)" hush
  is "$(run --secret s,type=env,target=S $image sh -c 'echo $S')" hush
  p secret rm s
}
case_many_at_once() {
  local i pids=() rcs=''
  for i in {1..15}; do run --network none --name "c$i" $image sh -c "echo $i; exit $i" > "$d/out.$i" 2> "$d/err.$i" & pids+=($!); done
  for i in {1..15}; do wait "${pids[i - 1]}" && rcs+="0 " || rcs+="$? "; done
  is "$rcs" "$(seq -s ' ' 15) "
  for i in {1..15}; do is "$(cat "$d/out.$i")" "$i"; done
}
case_many_execs_at_once() {
  background c
  local i pids=() rcs=''
  for i in {1..15}; do p exec c sh -c "exit $i" & pids+=($!); done
  for i in {1..15}; do wait "${pids[i - 1]}" && rcs+="0 " || rcs+="$? "; done
  is "$rcs" "$(seq -s ' ' 15) "
}

# --- exec
case_exec() {
  background c -e A=b
  is "$(p exec c sh -c 'echo $A $(pwd); tr "\0" " " < /proc/1/cmdline')" $'b /\nsleep 1000 '
  exits 6 p exec c sh -c 'exit 6'
  is "$(echo in | p exec -i c cat)" in
  is "$(p exec -e X=y -w /tmp -u daemon c sh -c 'echo $X $(pwd) $(id -un)')" 'y /tmp daemon'
  is "$(p exec --user 7:8 c id -u)" 7
  exits 137 p exec c sh -c 'kill -KILL $$'
}
case_exec_errors() {
  background c
  exits 127 p exec c no-such-command; says 'executable file.*not found|no such file'
  exits 126 p exec c /etc/passwd; says 'permission denied'
  exits 127 p exec -w /absent c true
  exits 125 p exec absent true
}
case_exec_terminal() {
  background c
  local rc=0 text
  text=$(set -o pipefail; terminal "stty rows 31 cols 97; podman --runtime $runtime exec -it c sh -c 'tty; stty size; exit 5'" <&9) || rc=$?
  has "$text" '^/dev/pts/0$'
  has "$text" '^31 97$'
  is $rc 5
  rc=0
  text=$(set -o pipefail; printf 'echo $((6 * 7))\nexit 3\n' | terminal "podman --runtime $runtime exec -it c sh") || rc=$?
  has "$text" '^42$'
  is $rc 3
}
case_exec_detached() {
  background c
  p exec -d c sh -c 'echo done > /tmp/mark; sleep 1000'
  await p exec c grep -q done /tmp/mark
  has "$(p top c pid args)" 'sleep 1000'
}
case_exec_privileged() {
  background c
  local all; all=$(run --privileged $image grep CapEff /proc/self/status)
  is "$(p exec --privileged c grep CapEff /proc/self/status)" "$all"
  [ "$(p exec c grep CapEff /proc/self/status)" != "$all" ] || fail "without --privileged too"
}
case_exec_preserve_fds() { background c; is "$(p exec --preserve-fds 1 c cat /proc/self/fd/3 3<<< handed)" handed; }
case_exec_in_a_stopped_container() { p run --name c $image true; exits 255 p exec c true; says 'can only create exec sessions on running containers'; }

# Last: nothing of all these containers is left. (Podman's pause process of an ordinary user is its own.)
remains() (
  set +e
  p ps -aq; p pod ps -q
  ps -e -o comm= | grep -E '^(conmon|ferrun|runc|crun|slirp4netns|rootlessport|sleep|catatonit)' | grep -vx "${rootless:+catatonit}"
  awk '{ print $5 }' /proc/self/mountinfo | grep -E "^($run_root|$d)/.*(merged|shm)"
  find /run/{ferrun,runc,crun} "${XDG_RUNTIME_DIR:-/absent}"/{ferrun,runc,crun} -mindepth 1 2> /dev/null
  sandbox_hierarchies | while read -r m _; do find "$m" -mindepth 1 -type d -path '*libpod-*'; done
)
nothing_remains() { [ -z "$(remains)" ]; }
last_nothing_left() { (await nothing_remains) || is "$(remains)" ''; }
