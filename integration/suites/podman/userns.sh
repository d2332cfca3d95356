# shellcheck shell=bash
# User namespaces, and a runtime inside of Podman's containers.

# maps CONTAINER...: the program's own view of its users and groups, blanks squeezed
maps='cat /proc/self/uid_map /proc/self/gid_map | tr -s " "'
# owner FILE: as this namespace sees it. The user's own namespace is Podman's.
owner() { if [ -z "$rootless" ]; then stat -c %u:%g "$1"; else p unshare stat -c %u:%g "$1"; fi; }

# in_user_namespace OPTIONS...: what has to work whatever the ids are
in_user_namespace() {
  background c "$@"
  is "$(p exec c sh -c 'id -u; id -g; ls -l /dev/null | cut -c 1-10')" $'0\n0\ncrw-rw-rw-'
  is "$(p exec c stat -c %u:%g / /etc/group /proc/1/status /dev/shm /dev/mqueue /dev/pts/ptmx | sort -u)" 0:0
  is "$(p exec -u 5:6 -w /tmp c sh -c 'touch f; stat -c %u:%g f')" 5:6
  has "$(terminal "podman --runtime $runtime exec -it c sh -c 'tty; stat -c %u /dev/pts/0'" <&9 | tr '\n' ' ')" '/dev/pts/0 0 '
  is "$(p exec c sh -c 'echo x > /dev/null && head -c 3 /dev/zero | wc -c')" 3
  exits 6 p exec c sh -c 'exit 6'
  p pause c; in_state c paused; p unpause c
  p stop -t 0 c
  p start c
  exits 0 p exec c true
  exits 7 run "$@" --read-only --init --tmpfs /t --cap-drop all $image sh -c 'touch /t/x && exit 7'
  exits 0 run "$@" --privileged $image sh -c 'mount -t tmpfs t /tmp && mkdir /sys/fs/cgroup/x 2> /dev/null; test -c /dev/null'
  exits 127 run "$@" $image no-such-command
  has "$(terminal "podman --runtime $runtime run --rm -it $* $image sh -c 'tty; id -u'" <&9 | tr '\n' ' ')" '/dev/pts/0 0 '
  is "$(run "$@" --systemd always $image sh -c 'mount | grep -c " /run/lock type tmpfs"')" 1
}

root_uidmap() {
  local map=(--uidmap 0:100000:1000 --gidmap 0:200000:500)
  is "$(run "${map[@]}" $image sh -c "$maps")" $' 0 100000 1000\n 0 200000 500'
  mkdir -p "$d/mapped"; chmod 777 "$d/mapped"
  run "${map[@]}" -v "$d/mapped:/mnt" -u 7:8 $image touch /mnt/f
  is "$(stat -c %u:%g "$d/mapped/f")" 100007:200008
  in_user_namespace "${map[@]}"
}
root_subuidname() { is "$(run --subuidname tester --subgidname tester $image sh -c "$maps")" $' 0 200000 65536\n 0 200000 65536'; }
case_userns_auto() {
  is "$(run --userns auto:size=500 $image sh -c "cut -c 23- /proc/self/uid_map | tr -d ' '")" 500
  in_user_namespace --userns auto:size=2000
}
root_userns_auto_twice() {
  background c --userns auto:size=500
  background e --userns auto:size=500
  [ "$(awk '{ print $2 }' "/proc/$(pid_of c)/uid_map")" != "$(awk '{ print $2 }' "/proc/$(pid_of e)/uid_map")" ] || fail "both have the same ids"
}
case_userns_of_a_container() {
  background c --userns auto:size=500
  is "$(run --userns container:c $image readlink /proc/self/ns/user)" "$(p exec c readlink /proc/self/ns/user)"
  is "$(run --userns container:c --pid container:c $image sh -c 'tr "\0" " " < /proc/1/cmdline; id -u')" 'sleep 1000 0'
  exits 9 run --userns container:c --init $image sh -c 'exit 9'
}
case_userns_host() { is "$(run --userns host $image readlink /proc/self/ns/user)" "$(if [ -z "$rootless" ]; then readlink /proc/self/ns/user; else p unshare readlink /proc/self/ns/user; fi)"; }
root_userns_with_a_network() {
  serve --userns auto --network bridge -p 127.0.0.1:18083:80
  await answers 18083
  is "$(run --userns auto --network bridge --sysctl net.ipv4.ip_default_ttl=33 $image cat /proc/sys/net/ipv4/ip_default_ttl)" 33
}
root_userns_with_limits() {
  background c --userns auto --memory 64m --pids-limit 33
  is "$(limit c memory memory.limit_in_bytes) $(limit c pids pids.max)" "$((64 << 20)) 33"
  p update --memory 48m c > /dev/null
  is "$(limit c memory memory.limit_in_bytes)" $((48 << 20))
}
case_userns_volume_chown() {
  p volume create v > /dev/null
  is "$(run --userns auto:size=500 -v v:/v:U -u 3:4 $image sh -c 'touch /v/f; stat -c %u:%g /v /v/f')" $'3:4\n3:4'
}
root_volume_idmap() {
  mkdir -p "$d/idmap"; echo given > "$d/idmap/f"
  is "$(run --userns auto:size=500 -v "$d/idmap:/mnt:idmap" $image sh -c 'stat -c %u:%g /mnt/f; touch /mnt/g')" 0:0
  is "$(stat -c %u:%g "$d/idmap/g")" 0:0
}
case_pod_with_a_user_namespace() {
  p pod create --name q --network none --userns auto:size=600 > /dev/null
  p run -d --pod q --name c $image sleep 1000 > /dev/null
  p run -d --pod q --name e $image sleep 1000 > /dev/null
  is "$(p exec c readlink /proc/self/ns/user)" "$(p exec e readlink /proc/self/ns/user)"
  is "$(p exec c readlink /proc/self/ns/net)" "$(p exec e readlink /proc/self/ns/net)"
  is "$(p exec e sh -c 'cut -c 23- /proc/self/uid_map | tr -d " "; id -u')" $'600\n0'
  p pod stop -t 0 q > /dev/null
  p pod start q > /dev/null
  exits 0 p exec c true
}
root_play_kube_with_a_user_namespace() {
  printf '%s\n' 'apiVersion: v1' 'kind: Pod' 'metadata: {name: web}' 'spec:' '  containers:' "  - {name: one, image: $image, command: [sleep, '1000']}" > "$d/user.yaml"
  exits 0 p play kube --userns auto:size=700 --network none "$d/user.yaml"
  is "$(p exec web-one sh -c 'cut -c 23- /proc/self/uid_map | tr -d " "')" 700
}
user_ids() {
  is "$(run $image sh -c "$maps")" $' 0 1234 1\n 1 200000 65536\n 0 1234 1\n 1 200000 65536'
  mkdir -p "$d/mine"
  run -v "$d/mine:/mnt" $image touch /mnt/f
  run -v "$d/mine:/mnt" $image sh -c 'touch /mnt/g; chown 5:6 /mnt/g'
  is "$(stat -c %u:%g "$d/mine/f" "$d/mine/g")" $'1234:1234\n200004:200005'
  in_user_namespace
}
user_keep_id() {
  is "$(run --userns keep-id $image sh -c 'id -u; id -g; id -un')" $'1234\n1234\ntester'
  mkdir -p "$d/mine"
  run --userns keep-id -v "$d/mine:/mnt" $image touch /mnt/k
  is "$(stat -c %u:%g "$d/mine/k")" 1234:1234
  is "$(run --userns keep-id -u 0 $image sh -c 'id -u; echo x > /etc/x && stat -c %u /etc/x')" $'0\n0'
  background c --userns keep-id
  is "$(p exec c id -u)" 1234
  has "$(terminal "podman --runtime $runtime exec -it c tty" <&9)" /dev/pts/0
}
user_keep_id_of() { is "$(run --userns keep-id:uid=200,gid=210 $image sh -c 'id -u; id -g')" $'200\n210'; }
user_nomap() { is "$(run --userns nomap $image sh -c "$maps; id -u")" $' 0 1 65536\n 0 1 65536\n0'; }
user_uidmap() {
  is "$(run --uidmap 0:1:500 --gidmap 0:1:400 $image sh -c "$maps")" $' 0 1 500\n 0 1 400'
  in_user_namespace --uidmap 0:1:5000
}
user_unshare() { is "$(p unshare cat /proc/self/uid_map | tr -s ' ')" $' 0 1234 1\n 1 200000 65536'; }

# --- The runtime inside
# nested ARGUMENTS-OF-SPEC OPTIONS...: runs, looks at and removes a container in a container with these options
nested() {
  local spec=$1 nest=$d/nest
  shift
  rm -rf "$nest"
  mkdir -p "$nest/rootfs"/{bin,proc,sys,dev,etc}
  cp /bin/busybox "$nest/rootfs/bin/sh"
  cp /bin/busybox "$nest/rootfs/bin/sleep"
  "$runtime" spec $spec --bundle "$nest" 2> /dev/null || (cd "$nest" && "$runtime" spec $spec)
  perl -pi -e 's/"terminal": ?true/"terminal": false/; s/^(\s*)"sh"$/$1"sh", "-c", "echo inner; exec sleep 1000"/' "$nest/config.json"
  is "$(run "$@" -v "$runtime:/bin/inner:ro" -v "$nest:/nest" -v /usr:/usr:ro $image sh -ec '
    cd /nest
    inner create --pid-file /tmp/pid n > /tmp/out 2> /tmp/err < /dev/null || { cat /tmp/err; exit 1; }
    inner start n
    inner exec n sh -c "echo exec" < /dev/null
    until grep -q inner /tmp/out; do sleep 0.1; done
    inner list | grep -c "running"
    inner kill n KILL
    until inner delete n 2> /dev/null; do sleep 0.1; done
    inner list | grep -c "running" || true')" $'exec\n1\n0'
}
case_nested() { nested '' --privileged; }
case_nested_with_a_user_namespace() { nested --rootless --privileged; }
root_nested_in_a_user_namespace() { nested '' --privileged --userns auto; nested --rootless --privileged --userns auto; }
# Without --privileged, but with what a runtime needs: the profile answers clone3 for itself
case_nested_under_a_profile() { nested --rootless --cap-add sys_admin --security-opt unmask=ALL -v /sys/fs/cgroup:/sys/fs/cgroup:rslave; }
