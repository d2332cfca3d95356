# shellcheck shell=bash
# Cases of hack/containerd-suite: options of the shim, snapshots of every kind.

# The TOML of a runtime's options, for which ctr has no words.
with_options() {
  [ $shim != containerd-shim-runc-v2 ] || skip "ctr gives runc's shim no file of options"
  echo "$1" > "$d/options.toml"
  below+=(--runtime-config-path "$d/options.toml")
}
case_owner_of_the_pipes() {
  with_options $'IoUid = 1000\nIoGid = 1001'
  is "$(run --rm $image c stat -Lc '%u %g' /proc/self/fd/1 /proc/self/fd/2 2>&1)" $'1000 1001\n1000 1001'
  run -d $image c sleep 100
  # who is not root can open them again
  is "$(c task exec --exec-id e --user 1000 c sh -c 'echo reopened > /dev/stdout')" reopened
  remove c
}
case_cgroup_of_the_shim() {
  local m type pid shim_pid made=()
  with_options 'ShimCgroup = "/suite-shim"'
  exits 1 run --rm $image c true
  grep -q 'ShimCgroup suite-shim: there is no such cgroup' "$d/err" || fail "$(cat "$d/err")"
  while read -r m type _; do
    # (a new cpuset takes nobody)
    if [[ $type = cgroup && $m != *cpuset* ]]; then mkdir "$m/suite-shim"; made+=("$m/suite-shim"); fi
  done < <(sandbox_hierarchies)
  run -d $image c sleep 100
  pid=$(c task ls | awk '$1 == "c" { print $2 }'); shim_pid=$(awk '/^PPid/ { print $2 }' "/proc/$pid/status")
  is "$(grep -c ':/suite-shim$' "/proc/$shim_pid/cgroup")" ${#made[@]}
  is "$(grep -c suite-shim "/proc/$pid/cgroup" || true)" 0
  remove c
  for m in "${made[@]}"; do await_gone "$m"; done
}
# The shim leaves it when it ends.
await_gone() { local i; for i in {1..100}; do ! rmdir "$1" 2> /dev/null || return 0; sleep 0.1; done; fail "somebody is in $1"; }
case_other_root_of_the_runtime() {
  with_options "Root = \"$d/state\""
  run -d $image c sleep 100
  is "$(find "$d/state" -mindepth 1 -name c | wc -l)" 1
  remove c
  is "$(find "$d/state" -mindepth 2 | wc -l)" 0
}
case_options_that_are_none() {
  with_options 'IoUid = "root"'
  exits 1 run --rm $image c true
  grep -q 'options .*IoUid\|options .*invalid type' "$d/err" || fail "$(cat "$d/err")"
}

# With other snapshots than overlays of directories.
snapshots_of() { # SNAPSHOTTER FILESYSTEM
  local script="echo made > /made; echo changed > /etc/group; awk '\$2 == \"/\" { print \$3 }' /proc/mounts; cat /made /etc/group"
  grep -q "snapshotter.v1 *$1 .* ok" <<< "$(c plugin ls)" || skip "containerd $version has no snapshots of $1"
  is "$(run --rm --snapshotter "$1" $image c sh -c "$script")" "$2"$'\nmade\nchanged'
  run -d --snapshotter "$1" $image c sleep 100
  is "$(c task exec --exec-id e c sh -c 'ls /made 2> /dev/null; head -n 1 /etc/group')" root:x:0:
  remove c
}
case_snapshots_of_native() { snapshots_of native "$(findmnt -nro FSTYPE -T "$d" | tail -n 1)"; }
case_snapshots_of_blockfile() { snapshots_of blockfile ext4; }
case_snapshots_of_erofs() { snapshots_of erofs overlay; }
