# shellcheck shell=bash
# For the suites in hack/: a place from which nothing gets out. Sourced.
#
#   sandbox_open NAME              makes $sandbox_dir, and a cgroup NAME-PID in every hierarchy
#   sandbox_run LIMIT CMD ARG...   runs CMD in namespaces of its own; exit status 137 after LIMIT seconds
#   sandbox_clean_cgroups -mindepth 1    removes the cgroups that CMD left
#   sandbox_close                  removes all of that and nothing else
#
# Inside, /run is empty, all mounts are private, and the roots of the cgroup
# hierarchies are the cgroups made by sandbox_open: what a runtime makes is below them,
# can be looked at and can be removed, whatever names it chose. No process outlives CMD.

# "MOUNTPOINT TYPE SUPEROPTIONS" of each mounted hierarchy. (What is merely a directory
# below the tmpfs on /sys/fs/cgroup is none: managers make such.)
sandbox_hierarchies() { awk '{ for (i = 7; $i != "-"; i++); if ($(i+1) ~ /^cgroup2?$/) print $5, $(i+1), $(i+3) }' /proc/self/mountinfo; }

sandbox_open() {
  sandbox_name=$1-$BASHPID
  sandbox_dir=$(mktemp -d "/tmp/$sandbox_name-XXXXXX")
  chmod 755 "$sandbox_dir" # the root of a user namespace has to get through
  sandbox_cgroups=()
  local mount type options c
  while read -r mount type options; do
    c=$mount/$sandbox_name
    mkdir "$c"
    sandbox_cgroups+=("$c")
    # A fresh v1 cpuset takes no process before it has processors and memory; real-time
    # time goes to children only when the parent has some.
    if [[ ,$options, = *,cpuset,* ]]; then cat "$mount/cpuset.cpus" > "$c/cpuset.cpus"; cat "$mount/cpuset.mems" > "$c/cpuset.mems"; fi
    [ ! -f "$c/cpu.rt_runtime_us" ] || echo 100000 > "$c/cpu.rt_runtime_us" || true
  done < <(sandbox_hierarchies)
}

# Second part of sandbox_run, rooted in the cgroups: moves to leaves on v2, where a cgroup
# that has controllers for its children has no processes.
sandbox_rooted() {
  local limit=$1 c controller
  shift
  while read -r c; do
    [ -f "$c/cgroup.subtree_control" ] || continue
    mkdir -p "$c/suite"
    echo 0 > "$c/suite/cgroup.procs"
    for controller in $(cat "$c/cgroup.controllers"); do echo "+$controller" > "$c/cgroup.subtree_control"; done
  done <<< "$SANDBOX_CGROUPS"
  # unshare ignores SIGINT and SIGTERM; its end is the end of all that is inside.
  exec timeout --foreground --signal=KILL "$limit" unshare --mount --pid --net --ipc --fork --kill-child --mount-proc \
    bash -c 'source "$0"; sandbox_inside "$@"' "${BASH_SOURCE[0]}" "$@"
}

# Third part, as the first process of its namespaces.
sandbox_inside() {
  set -e
  local hierarchies mount type options
  hierarchies=$(sandbox_hierarchies)
  mount --make-rprivate /
  while read -r mount type options; do
    # On top of the outer one, it would be the second of two in mountinfo; runtimes take the first.
    umount -l "$mount"
    [ "${SANDBOX_WITHOUT:-}" = "$type" ] && continue
    options=$(tr , '\n' <<< "$options" | grep -vxE 'r[wo]|clone_children|release_agent=.*' | paste -sd,) || true
    [[ $options = name=* ]] && options=none,$options
    [ "$type" = cgroup2 ] && options=rw
    mount -t "$type" -o "$options" cgroup "$mount"
  done <<< "$hierarchies"
  mount -t tmpfs -o mode=755 tmpfs /run
  if [ -x /sbin/ip ]; then /sbin/ip link set lo up; fi
  exec "$@"
}

sandbox_run() (
  # A single-threaded process that moves itself through `tasks` waits for nothing.
  for c in "${sandbox_cgroups[@]}"; do
    if [ -f "$c/tasks" ]; then echo 0 > "$c/tasks"; else echo 0 > "$c/cgroup.procs"; fi
  done
  SANDBOX_CGROUPS=$(printf '%s\n' "${sandbox_cgroups[@]}")
  export SANDBOX_CGROUPS
  exec unshare --cgroup bash -c 'source "$0"; sandbox_rooted "$@"' "${BASH_SOURCE[0]}" "$@"
)

# Processes die after `wait` says that their parent did: try for two seconds.
sandbox_clean_cgroups() {
  local i
  for i in {1..20}; do
    find "${sandbox_cgroups[@]}" -depth -type d "$@" -exec rmdir {} + 2>/dev/null
    [ -n "$(find "${sandbox_cgroups[@]}" -type d "$@" -print -quit 2>/dev/null)" ] || return 0
    sleep 0.1
  done
  echo "sandbox: these cgroups could not be removed:" "$(find "${sandbox_cgroups[@]}" -type d "$@" 2>/dev/null)" >&2
  return 1
}

sandbox_close() {
  local rc=0
  sandbox_clean_cgroups || rc=1
  # A mount of the sandbox's is in none of the machine's namespaces: this is only files.
  rm -rf --one-file-system "$sandbox_dir" || rc=1
  return $rc
}
