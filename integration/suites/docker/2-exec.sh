# shellcheck shell=bash
# exec, and the exit statuses that callers read.

row exec '`exec`: output and exit status'
t_exec() {
  idle
  exits 6 docker exec box sh -c 'echo out; echo err >&2; exit 6'
  is "$(cat "$d/out") $(cat "$d/err")" 'out err'
  is "$(docker exec box sh -c 'tr "\0" " " < /proc/1/cmdline')" 'sleep 100000 '
}

row exec_stdin '`exec -i`: input, and its end'
t_exec_stdin() { idle; is "$(printf 'one\ntwo\n' | docker exec -i box cat)" $'one\ntwo'; }

row exec_tty '`exec -it`: a terminal, its size, a new size'
t_exec_tty() {
  idle
  terminal $docker exec -it box sh
  await "a prompt" shows '#'
  types 'tty; stty size' Enter
  await "the terminal's size" shows '^30 100'
  shows '^/dev/pts/0' || fail "$(screen)"
  tmux -S "$d/tmux" set-option -t t window-size manual
  tmux -S "$d/tmux" resize-window -t t -x 90 -y 20
  await "the new size" resized
  types 'exit 6' Enter
  await "the end" shows '^status 6'
}

row exec_options '`exec -u -w -e`'
t_exec_options() {
  idle -e A=old -e B=b
  is "$(docker exec -u 1000:7 -w /tmp -e A=new box sh -c 'echo $(id -u):$(id -g) $(pwd) $A $B')" '1000:7 /tmp new b'
  is "$(docker exec -u app box sh -c 'echo $(id -u):$(id -g) $(id -G) $HOME')" '1000:1001 1001 77 /home/app'
}

row exec_detached '`exec -d`'
t_exec_detached() {
  idle
  docker exec -d box sh -c 'echo done > /tmp/mark; exec sleep 100000'
  await "its mark" docker exec box test -s /tmp/mark
  is "$(docker top box -o pid,comm | grep -c sleep)" 2
}

row exec_privileged '`exec --privileged`'
t_exec_privileged() {
  idle
  is "$(docker exec box grep CapEff /proc/self/status)" $'CapEff:\t00000000a80425fb'
  docker exec --privileged box cat /proc/self/status > "$d/status"
  has_all_capabilities "$d/status"
}

# has_all_capabilities STATUS: those that root has here, up to CAP_AUDIT_READ; Docker 20.10 does not know the others
has_all_capabilities() {
  local root all=$((0x3fffffffff))
  root=0x$(awk '$1 == "CapBnd:" { print $2 }' /proc/self/status)
  is "$((0x$(awk '$1 == "CapEff:" { print $2 }' "$1") & all))" "$((root & all))"
}

row exec_many '`exec`: twenty at once'
t_exec_many() {
  local i pids=() rcs=
  idle
  for i in {1..20}; do docker exec box sh -c "echo $i; exit $i" > "$d/out.$i" 2>&1 & pids+=($!); done
  for i in {1..20}; do wait "${pids[i - 1]}" && rcs+="0 " || rcs+="$? "; done
  is "$rcs" "$(printf '%s ' {1..20})"
  for i in {1..20}; do is "$(cat "$d/out.$i")" "$i"; done
}

row exec_exit_126_127 '`exec`: 126 for what cannot be executed, 127 for what is not there (Docker 20.10 and 26.1: 126)'
t_exec_exit_126_127() {
  local absent=127
  [[ $version != 20.* && $version != 26.* ]] || absent=126 # whatever the runtime
  idle
  exits 126 docker exec box /etc/passwd
  has "$(cat "$d/err" "$d/out")" 'permission denied'
  exits $absent docker exec box /absent
  has "$(cat "$d/err" "$d/out")" 'no such file or directory'
  exits $absent docker exec box no-such-program
  has "$(cat "$d/err" "$d/out")" 'exec: "no-such-program": executable file not found in \$PATH'
  is "$(inspect .State.Status)" running
}

row exec_after_end '`exec` in a container that ended is refused'
t_exec_after_end() {
  docker run --name box $image true
  exits 1 docker exec box true
  has "$(cat "$d/err")" 'is not running'
}

row exec_killed '`exec`: 137 when the container is killed below it'
t_exec_killed() {
  local client rc=0
  idle
  docker exec box sh -c 'echo in; exec sleep 100000' > "$d/out" & client=$!
  await "the exec" grep -q in "$d/out"
  docker kill box > /dev/null
  wait $client || rc=$?
  is $rc 137
}

row exit_125 '`run`: 125 when Docker itself refuses'
t_exit_125() { exits 125 docker run --rm --memory 1 $image true; has "$(cat "$d/err")" 'Minimum memory limit'; }

row exit_126 '`run`: 126 for a directory, and for a file that is no program'
t_exit_126() {
  exits 126 docker run --rm $image /etc
  has "$(cat "$d/err")" 'permission denied|is a directory'
  exits 126 docker run --rm $image /etc/passwd
  has "$(cat "$d/err")" 'permission denied'
}

row exit_127 '`run`: 127 for what is not there; the container can be removed'
t_exit_127() {
  exits 127 docker run --name box $image no-such-program
  has "$(cat "$d/err")" 'exec: "no-such-program": executable file not found in \$PATH'
  is "$(inspect '.State.Status' box) $(inspect .State.ExitCode)" 'created 127'
  exits 0 docker rm box
  exits 127 docker run --rm $image /absent/program
  has "$(cat "$d/err")" 'no such file or directory'
}

row exit_signal '`run`: 128 + signal'
t_exit_signal() {
  exits 143 docker run --rm --init $image sh -c 'kill -TERM $$'
  exits 137 docker run --rm --init $image sh -c 'kill -KILL $$'
}
