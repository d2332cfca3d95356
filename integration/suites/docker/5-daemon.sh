# shellcheck shell=bash
# Images, restarts, the daemon and its helpers' ends, many containers at once.

build_context() {
  mkdir -p "$d/context"
  echo word > "$d/context/f"
  printf '%s\n' "FROM $image" 'COPY f /f' 'RUN cat /f /f > /g && mkdir /w && chown 1000 /w' 'ENV A=b' 'WORKDIR /w' 'USER app' 'RUN id -u > /w/uid' \
    'ENTRYPOINT ["sh", "-c"]' 'CMD ["cat /g uid; echo $A"]' > "$d/context/Dockerfile"
}
row build '`build` of a local Dockerfile: RUN, COPY, ENV, USER, WORKDIR'
t_build() {
  build_context
  exits 0 docker build -t built "$d/context"
  is "$(docker run --rm built)" $'word\nword\n1000\nb'
  printf '%s\n' "FROM $image" 'RUN exit 3' > "$d/context/Dockerfile"
  exits 3 docker build "$d/context" || fail "$(cat "$d/err")"
  has "$(cat "$d/err")" 'returned a non-zero code: 3'
  docker image rm built > /dev/null
}

row build_buildkit '`build` with BuildKit, which calls the runtime itself'
t_build_buildkit() {
  [[ $version = 20.* ]] || docker buildx version > /dev/null || skip "docker has no buildx here"
  build_context
  exits 0 env DOCKER_BUILDKIT=1 timeout 90 $docker build --progress plain -t built "$d/context"
  is "$(docker run --rm built)" $'word\nword\n1000\nb'
  docker image rm built > /dev/null
}

row save_load '`save`, `load`, `import`'
t_save_load() {
  docker tag $image other
  docker save -o "$d/saved.tar" other
  docker image rm other > /dev/null
  docker load -i "$d/saved.tar" > /dev/null
  is "$(docker run --rm other echo loaded)" loaded
  docker image rm other > /dev/null
}

row restart_policy '`run --restart`: on-failure, always'
t_restart_policy() {
  local first
  docker run -d --name fails --restart on-failure:2 $image sh -c 'exit 3' > /dev/null
  await "two restarts" equals '2 exited 3' inspect '.RestartCount}} {{.State.Status}} {{.State.ExitCode' fails
  idle --restart always
  first=$(pid)
  kill -KILL "$first"
  await "another start" restarted "$first"
  docker exec box true
}
restarted() { [ "$(inspect '.State.Status')" = running ] && [ "$(pid)" != "$1" ]; }

row health '`run --health-cmd`: unhealthy, healthy'
t_health() {
  idle --health-cmd 'test -e /ok' --health-interval 300ms --health-retries 1
  await "bad news" equals unhealthy inspect .State.Health.Status
  docker exec box touch /ok
  await "good news" equals healthy inspect .State.Health.Status
}

row parallel 'twenty containers at once, each with its own exit status'
t_parallel() {
  local i pids=() rcs=
  for i in {1..20}; do docker run --rm $image sh -c "echo $i; exit $i" > "$d/out.$i" 2> "$d/err.$i" & pids+=($!); done
  for i in {1..20}; do wait "${pids[i - 1]}" && rcs+="0 " || rcs+="$? "; done
  is "$rcs" "$(printf '%s ' {1..20})"
  for i in {1..20}; do is "$(cat "$d/out.$i")" "$i"; done
}

row live_restore '`dockerd --live-restore`: containers survive the daemon'"'s"' restart'
t_live_restore() {
  local before
  up -- sh -c 'echo begun; until [ -e /go ]; do sleep 0.1; done; echo went; exit 9'
  await "its beginning" said begun
  before=$(pid)
  end_daemon
  [ -e "/proc/$before" ] || fail "the container ended with the daemon"
  start_daemon --live-restore
  is "$(inspect .State.Status) $(pid)" "running $before"
  exits 0 docker exec box touch /go
  is "$(docker wait box)" 9
  await "what it said" said went
}

row daemon_killed 'dockerd and containerd are killed: containers survive, and who ends meanwhile ends with its status'
t_daemon_killed() {
  local before
  [ -n "$shim" ] || [[ $version = 20.* ]] || skip "containerd since 1.7 takes a stopped task of runc's shim for a leaked one when it starts"
  mkdir -p "$d/away"; rm -f "$d/away/go"
  up -v "$d/away:/word" -- sh -c 'until [ -e /word/go ]; do sleep 0.1; done; exit 9'
  docker run -d --name stays $image sleep 100000 > /dev/null
  before=$(pid)
  end_daemon KILL
  await "containerd's end" no_process containerd
  touch "$d/away/go"
  await "the container's end" gone "$before"
  start_daemon --live-restore
  await "the status" equals 'exited 9' inspect '.State.Status}} {{.State.ExitCode'
  exits 0 docker exec stays true
}
no_process() { ! grep -qsx "$1" /proc/[0-9]*/comm; }

row shim_killed 'the shim is killed: the container ends with 137, and can be started again'
t_shim_killed() {
  local before
  idle
  before=$(pid)
  kill -KILL "$(awk '$1 == "PPid:" { print $2 }' "/proc/$before/status")"
  await "its end" equals 'exited 137' inspect '.State.Status}} {{.State.ExitCode'
  await "the end of its process" gone "$before"
  exits 0 docker start box
  exits 0 docker exec box true
}

row runtime_option '`run --runtime`, `info`'
t_runtime_option() {
  is "$(docker run --rm --runtime test $image echo named)" named
  is "$(docker info -f '{{.DefaultRuntime}} {{.LiveRestoreEnabled}}' 2> /dev/null)" 'test true'
  exits 125 docker run --rm --runtime none $image true
}

row checkpoint '`checkpoint create`, `start --checkpoint`'
t_checkpoint() {
  "$runtime" --help 2>&1 | grep -qE '^\s+checkpoint\b' || {
    idle
    exits 1 docker checkpoint create box one
    local words; words=$(grep . "$d/err" | head -n 1)
    is "$(inspect .State.Status)" running
    exits 0 docker exec box true
    skip "not in ${runtime##*/} yet: $words"
  }
  command -v criu > /dev/null || skip "no criu here"
  idle
  docker checkpoint create box one
  await "its end" ended
  docker start --checkpoint one box
  exits 0 docker exec box true
}

# Last of its group: nothing of all these containers is left while the daemon still runs.
row nothing_left 'after all that: no process, mount, cgroup, network or file of a container is left'
t_nothing_left() { check_nothing_left; }
check_nothing_left() {
  local left
  left=$(docker ps -aq)
  [ -z "$left" ] || docker rm -fv $left > /dev/null
  await "an empty machine: $(remains | head -n 3 | paste -sd' ')" nothing_remains
}
nothing_remains() { [ -z "$(remains)" ]; }
# (The network namespace `default` is the daemon's own, for --network host.)
remains() {
  local m
  ps -e -o args= | grep -E '^([^ ]*/)?(containerd-shim|ferrun|runc|crun|docker-init|docker-proxy|sleep)\b' || true
  awk '{ print $5 }' /proc/self/mountinfo | grep -E "^/run/test-docker/|^$d.*/(merged|shm|rootfs)$" | grep -vx /run/test-docker/netns/default |
    if [ -s "$d/left-by-docker" ]; then grep -vxFf "$d/left-by-docker"; else cat; fi || true
  find /run/test-docker/containerd/daemon/io.containerd.runtime.v2.task/moby /run/test-docker/runtime-*/moby /run/{ferrun,runc,crun} -mindepth 1 2> /dev/null || true
  sandbox_hierarchies | while read -r m _; do find "$m" -mindepth 1 -type d ! -path "$m/suite" ! -path "$m/docker" ! -path "$m/above" ! -path "$m/docker/buildkit"; done
  ip -o link show type veth 2> /dev/null || true
}
