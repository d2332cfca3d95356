# shellcheck shell=bash
# A container's life, from create to rm, and what Docker says about it.

setup_plain() {
  start_daemon --live-restore
  docker import --change 'ENV PATH=/bin' --change 'CMD ["sh"]' "$d/image.tar" $image > /dev/null
}
teardown_plain() { end_daemon; }

# --- What the cases of all files use. The container of a case is called box; all that a case leaves are removed after it.
# up OPTIONS... -- COMMAND...: a container box in the background, of busybox
up() {
  local options=()
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  docker run -d --name box "${options[@]}" $image "${@:2}" > /dev/null
}
idle() { up "$@" -- sleep 100000; }
inspect() { docker inspect -f "{{$1}}" "${2:-box}"; }
said() { docker logs box 2>&1 | grep -qE -- "$1"; }
ended() { equals exited inspect .State.Status; }
pid() { inspect .State.Pid "$@"; }
# Traps TERM and ends with 5; says "ready" when it does
trapping='trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done'
# cgroup_of CONTROLLER PID: the directory
cgroup_of() {
  if [ -f "/proc/$2/cgroup" ] && grep -q ":[^:]*\b$1\b" "/proc/$2/cgroup"; then
    echo "/sys/fs/cgroup/$1$(awk -F: -v c="$1" '$2 ~ "(^|,)" c "(,|$)" { print $3 }' "/proc/$2/cgroup")"
  else
    fail "process $2 has no $1 cgroup"
  fi
}
# limit FILE: of container box's cgroup, as CONTROLLER.NAME
limit() { cat "$(cgroup_of "${1%%.*}" "$(pid)")/$1"; }
# terminal COMMAND...: in a terminal of 100 x 30, somebody in front of it; screen: what stands there
terminal() { env -u TMUX tmux -S "$d/tmux" -f /dev/null new-session -d -s t -x 100 -y 30 "$*; echo status \$?; sleep 100000"; tmux -S "$d/tmux" set -g status off; }
types() { tmux -S "$d/tmux" send-keys -t t "$@"; }
screen() { tmux -S "$d/tmux" capture-pane -p -t t; }
shows() { screen | grep -qE -- "$1"; }
close_terminal() { tmux -S "$d/tmux" kill-server; }

row run '`run`: output and exit status'
t_run() {
  exits 0 docker run --rm $image echo hello
  is "$(cat "$d/out")" hello
  exits 7 docker run --rm $image sh -c 'echo out; echo err >&2; exit 7'
  is "$(cat "$d/out") $(cat "$d/err")" 'out err'
}

row run_stdin '`run -i`: input, and its end'
t_run_stdin() { is "$(printf 'one\ntwo\n' | docker run --rm -i $image cat)" $'one\ntwo'; }

row run_large_output '`run`: 20 MB of output are complete'
t_run_large_output() { is "$(docker run --rm $image dd if=/dev/zero bs=1M count=20 2> /dev/null | wc -c)" $((20 << 20)); }

row run_tty '`run -it`: a terminal, its size, a new size, job control'
t_run_tty() {
  terminal $docker run --rm -it $image
  await "a prompt" shows '#'
  types 'tty; stty size' Enter
  await "the terminal's size" shows '^30 100'
  shows '^/dev/pts/0' || fail "$(screen)"
  tmux -S "$d/tmux" set-option -t t window-size manual
  tmux -S "$d/tmux" resize-window -t t -x 90 -y 20
  await "the new size" resized
  types 'cat' Enter; await "cat" shows '# cat'; types C-c
  types 'exit 6' Enter
  await "the end" shows '^status 6'
}
resized() { types 'stty size' Enter; sleep 0.2; shows '^20 90'; }

row run_detached '`run -d`, `logs`'
t_run_detached() {
  up -- sh -c 'echo begun; exec sleep 100000'
  await "output in the logs" said begun
  is "$(inspect .State.Status)" running
}

row create_start '`create`, `start`, `start -a`, and once more'
t_create_start() {
  docker create --name box $image sh -c 'echo again; exit 3' > /dev/null
  is "$(inspect .State.Status)" created
  exits 3 docker start -a box
  is "$(cat "$d/out")" again
  exits 3 docker start -a box
  exits 0 docker start box
  await "its third end" ended
  is "$(docker logs box)" $'again\nagain\nagain'
}

row restart '`restart`'
t_restart() {
  local before
  up -- sh -c 'echo begun; exec sleep 100000'
  before=$(pid)
  docker restart -t 0 box > /dev/null
  isnt "$(pid)" "$before"
  await "both beginnings" equals 2 docker_log_lines
}
docker_log_lines() { docker logs box | wc -l; }

row stop '`stop`: SIGTERM, or SIGKILL when that is not heard'
t_stop() {
  up -- sh -c "$trapping"
  await ready said ready
  docker stop -t 60 box > /dev/null
  is "$(inspect .State.ExitCode)" 5
  docker run -d --name deaf $image sleep 100000 > /dev/null # the first process of a namespace is deaf by default
  docker stop -t 1 deaf > /dev/null
  is "$(inspect .State.ExitCode deaf)" 137
}

row stop_signal '`run --stop-signal`'
t_stop_signal() {
  up --stop-signal USR1 -- sh -c "${trapping/TERM/USR1}"
  await ready said ready
  docker stop -t 60 box > /dev/null
  is "$(inspect .State.ExitCode)" 5
}

row kill '`kill`, `kill -s`'
t_kill() {
  up -- sh -c 'trap "echo hup" HUP; echo ready; while :; do sleep 0.1; done'
  await ready said ready
  docker kill -s HUP box > /dev/null
  await "word of the signal" said hup
  docker kill box > /dev/null
  await "its end" ended
  is "$(inspect .State.ExitCode)" 137
  exits 1 docker kill box
  has "$(cat "$d/err")" 'is not running'
}

row sig_proxy '`run` hands signals on'
t_sig_proxy() {
  local client rc=0
  $docker run --name box $image sh -c "$trapping" > "$d/out" &
  client=$!
  await ready grep -q ready "$d/out"
  kill -TERM $client
  wait $client || rc=$?
  is $rc 5
}

row pause '`pause`, `unpause`'
t_pause() {
  local freezer
  idle
  freezer=$(cgroup_of freezer "$(pid)")
  docker pause box > /dev/null
  is "$(inspect .State.Status) $(cat "$freezer/freezer.state")" 'paused FROZEN'
  exits 1 docker exec box true
  has "$(cat "$d/err")" 'is paused'
  docker unpause box > /dev/null
  is "$(inspect .State.Status) $(cat "$freezer/freezer.state")" 'running THAWED'
  exits 0 docker exec box true
}

row rm_paused '`rm -f` of a paused container'
t_rm_paused() {
  idle
  docker pause box > /dev/null
  exits 0 docker rm -f box
  is "$(docker ps -aq)" ''
}

row attach '`attach`: input, output, exit status'
t_attach() {
  up -i -- sh -c 'echo ready; read line; echo "got $line"; exit 4'
  await ready said ready
  # Input stays open, as Docker stops listening to the output at its end.
  exits 4 docker attach box < <(echo word; await "its end" ended)
  is "$(cat "$d/out")" 'got word'
}

row detach '`attach` to a terminal, and detach with ctrl-P ctrl-Q'
t_detach() {
  up -it -- sh
  terminal $docker attach box
  types Enter
  await "a prompt" shows '#'
  types 'echo $((40 + 2))' Enter
  await "an answer" shows '^42'
  types C-p C-q
  await "the client's end" shows 'read escape sequence'
  is "$(inspect .State.Status)" running
}

row wait '`wait`'
t_wait() {
  local waiter
  up -- sh -c 'until [ -e /go ]; do sleep 0.1; done; exit 9'
  docker wait box > "$d/out" & waiter=$!
  docker exec box touch /go
  wait $waiter
  is "$(cat "$d/out")" 9
  is "$(docker wait box)" 9
}

row rm '`rm`, `rm -f`'
t_rm() {
  idle
  exits 1 docker rm box
  has "$(cat "$d/err")" 'cannot remove a running container|container is running: stop the container'
  exits 0 docker rm -f box
  is "$(docker ps -aq)" ''
}

row rename '`rename`'
t_rename() { idle; docker rename box other; is "$(inspect .Name other)" /other; exits 0 docker exec other true; }

row update '`update`: memory, processor, pids, restart policy'
t_update() {
  idle --memory 64m --memory-swap 64m --pids-limit 50
  docker update --memory 96m --memory-swap 128m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --pids-limit 20 --restart on-failure:2 box > /dev/null
  is "$(limit memory.limit_in_bytes) $(limit memory.memsw.limit_in_bytes)" "$((96 << 20)) $((128 << 20))"
  is "$(limit cpu.cfs_quota_us) $(limit cpu.shares) $(limit cpuset.cpus) $(limit pids.max)" '50000 512 0 20'
  is "$(inspect .HostConfig.RestartPolicy.Name)" on-failure
  exits 1 docker update --memory 4m --memory-swap 2m box
  is "$(limit memory.limit_in_bytes)" $((96 << 20))
}

row ps '`ps`'
t_ps() {
  idle --label k=v
  docker run --name over $image true
  is "$(docker ps --format '{{.Names}} {{.Image}} {{.Command}}')" "box $image "'"sleep 100000"'
  is "$(docker ps -a --filter status=exited --format '{{.Names}}')" over
  is "$(docker ps -q --filter label=k=v --no-trunc)" "$(inspect .Id)"
}

row logs '`logs`: both streams, `--tail`, `-f` until the end'
t_logs() {
  local follower
  up -- sh -c 'echo one; echo two >&2; until [ -e /go ]; do sleep 0.1; done; echo three'
  await "two lines" said two
  is "$(docker logs box 2> /dev/null) $(docker logs box 2>&1 > /dev/null)" 'one two'
  is "$(docker logs --tail 1 box 2>&1 | wc -l)" 1 # of either stream: two pipes have no order
  docker logs -f box > "$d/out" 2>&1 & follower=$!
  docker exec box touch /go
  wait $follower
  is "$(sort "$d/out")" $'one\nthree\ntwo'
}

row log_drivers '`run --log-driver`: local, none'
t_log_drivers() {
  docker run --name box --log-driver local $image echo kept > "$d/out"
  is "$(docker logs box)" kept
  is "$(docker run --rm --log-driver none $image echo shown)" shown
}

row inspect '`inspect`: the process, times, the error of a start'
t_inspect() {
  idle
  is "$(tr '\0' ' ' < "/proc/$(pid)/cmdline")" 'sleep 100000 '
  [[ $(inspect .State.StartedAt) > $(inspect .Created) ]] || fail "started before it was created"
  exits 127 docker run --name bad $image no-such-program
  has "$(inspect .State.Error bad)" 'no-such-program'
}

row events '`events`: create, start, exec, pause, die, destroy in their order'
t_events() {
  local id
  idle
  id=$(inspect .Id)
  docker exec box true
  docker pause box > /dev/null; docker unpause box > /dev/null
  docker kill box > /dev/null
  await "its end" ended
  docker rm box > /dev/null
  # Three of one exec arrive in any order.
  await "all events" equals 'create start exec_create exec_start pause unpause kill die destroy' actions
  has "$(events '{{.Action}} {{.Actor.Attributes.exitCode}}')" '^die 137'
}
events() { docker events --since 10m --until "$(date +%s.%N)" --filter type=container --filter "container=$id" --format "$1"; }
actions() { events '{{.Action}}' | sed 's/:.*//' | grep -v exec_die | awk '!seen[$0]++' | paste -sd' '; }

row top '`top`'
t_top() {
  idle
  has "$(docker top box)" '^root .* sleep 100000$'
  is "$(docker top box -o pid,comm | tail -n 1 | tr -s ' ')" "$(pid) sleep"
}

row stats '`stats`'
t_stats() {
  idle --memory 64m
  has "$(docker stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}}' box)" '^box 1 [0-9.]+[KM]iB / 64MiB$'
}

row diff '`diff`'
t_diff() {
  docker run --name box $image sh -c 'echo > /new; echo >> /etc/passwd; rm /etc/group'
  is "$(docker diff box | sort)" $'A /new\nC /etc\nC /etc/passwd\nD /etc/group'
}

row cp '`cp` in both directions, into a running container too'
t_cp() {
  idle
  echo word > "$d/word"
  docker cp "$d/word" box:/tmp/word
  is "$(docker exec box cat /tmp/word)" word
  docker exec box sh -c 'echo back > /tmp/back'
  docker cp box:/tmp/back "$d/back"
  is "$(cat "$d/back")" back
  is "$(docker cp box:/tmp - | tar t | sort | paste -sd' ')" 'tmp/ tmp/back tmp/word'
}

row export '`export`'
t_export() {
  docker run --name box $image sh -c 'echo word > /file'
  is "$(docker export box | tar xO file)" word
  # Docker 26 leaves it mounted, whatever the runtime, which has nothing to do with a container that ended
  [[ $version != 26.* ]] || inspect .GraphDriver.Data.MergedDir >> "$d/left-by-docker"
}

row commit '`commit`, and a container of the new image'
t_commit() {
  idle
  docker exec box sh -c 'echo word > /file'
  docker commit box committed > /dev/null
  is "$(docker run --rm committed cat /file)" word
  docker image rm committed > /dev/null
}
