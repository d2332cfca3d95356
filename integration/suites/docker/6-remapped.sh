# shellcheck shell=bash
# Under a daemon with --userns-remap: root of a container is user 1000000 of the machine.
current=remapped

setup_remapped() {
  start_daemon --userns-remap remapped
  docker import --change 'ENV PATH=/bin' --change 'CMD ["sh"]' "$d/image.tar" $image > /dev/null
}
teardown_remapped() { check_nothing_left || true; end_daemon; }

row remap_run '`--userns-remap`: `run`, its exit status, its root is nobody outside'
t_remap_run() {
  exits 7 docker run --rm $image sh -c 'id -u; exit 7'
  is "$(cat "$d/out")" 0
  is "$(docker run --rm $image sh -c 'cat /proc/self/uid_map' | tr -s ' ')" ' 0 1000000 65536'
  idle
  is "$(stat -c %u "/proc/$(pid)")" 1000000
  exits 127 docker run --rm $image no-such-program
}

row remap_exec '`--userns-remap`: `exec`, `exec -it`'
t_remap_exec() {
  idle
  exits 6 docker exec box sh -c 'echo $(id -u); readlink /proc/self/ns/user; exit 6'
  is "$(cat "$d/out")" $'0\n'"$(ns user "$(pid)")"
  is "$(docker exec -u app box id -u)" 1000
  terminal $docker exec -it box sh
  await "a prompt" shows '#'
  types 'tty; exit 6' Enter
  await "the end" shows '^status 6'
  shows '^/dev/pts/0' || fail "$(screen)"
}

row remap_rights '`--userns-remap`: `--cap-add`, `--read-only`, `--tmpfs`, `--init`, limits, seccomp'
t_remap_rights() {
  is "$(status_line CapEff --cap-add NET_ADMIN)" 00000000a80435fb
  exits 1 docker run --rm --read-only $image touch /x
  exits 0 docker run --rm --read-only --tmpfs /t $image touch /t/x
  is "$(docker run --rm --init $image cat /proc/1/comm)" docker-init
  idle --memory 64m --pids-limit 20
  is "$(limit memory.limit_in_bytes) $(limit pids.max)" "$((64 << 20)) 20"
  is "$(status_line Seccomp)" 2
}

row remap_volume '`--userns-remap`: volumes, devices'
t_remap_volume() {
  mkdir -p "$d/theirs"; chown 1000000:1000000 "$d/theirs"
  docker run --rm -v "$d/theirs:/mnt" $image sh -c 'echo word > /mnt/f'
  is "$(stat -c %u "$d/theirs/f")" 1000000
  mkdir -p "$d/ours"
  exits 1 docker run --rm -v "$d/ours:/mnt" $image touch /mnt/f
  # Nobody can make a device there: the runtime binds the one of the same name.
  [ ! -c /dev/fuse ] || is "$(docker run --rm --device /dev/fuse $image stat -c %t:%T /dev/fuse)" "$(stat -c %t:%T /dev/fuse)"
  is "$(docker run --rm $image sh -c 'echo > /dev/null && head -c 1 /dev/zero | wc -c')" 1
}

row remap_network '`--userns-remap`: a published port, `--network container:`'
t_remap_network() {
  web -p 127.0.0.1:8080:80
  await "the page" page 127.0.0.1 8080
  is "$(docker run --rm --network container:box $image sh -c "$request 127.0.0.1 80" | tail -n 1)" page
}

row remap_pause '`--userns-remap`: pause, update, stop, restart, cp'
t_remap_pause() {
  up -- sh -c "$trapping"
  await ready said ready
  docker pause box > /dev/null; docker unpause box > /dev/null
  docker update --pids-limit 30 box > /dev/null
  is "$(limit pids.max)" 30
  docker stop -t 60 box > /dev/null
  is "$(inspect .State.ExitCode)" 5
  docker start box > /dev/null
  echo word > "$d/word"
  docker cp "$d/word" box:/tmp/word
  is "$(docker exec box cat /tmp/word)" word
}

row remap_build '`--userns-remap`: `build`'
t_remap_build() {
  build_context
  exits 0 docker build -t built "$d/context"
  is "$(docker run --rm built)" $'word\nword\n1000\nb'
}

row remap_host '`--userns-remap`: `run --userns host`, `--privileged --userns host`'
t_remap_host() {
  is "$(docker run --rm --userns host $image sh -c 'cat /proc/self/uid_map' | tr -s ' ')" ' 0 0 4294967295'
  exits 0 docker run --rm --privileged --userns host $image cat /proc/self/status
  has_all_capabilities "$d/out"
  exits 125 docker run --rm --privileged $image true
}
