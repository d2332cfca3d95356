# shellcheck shell=bash
# What `run` can be told about the places of a container: names, namespaces, volumes, networks.

row hostname '`run --hostname`, `--domainname`, `--add-host`, `--dns`'
t_hostname() {
  is "$(docker run --rm --hostname h --domainname d.test --add-host peer:10.0.0.1 --dns 10.0.0.2 $image sh -c 'hostname; cat /proc/sys/kernel/domainname; grep peer /etc/hosts; grep ^nameserver /etc/resolv.conf')" \
    $'h\nd.test\n10.0.0.1\tpeer\nnameserver 10.0.0.2'
}

ns() { readlink "/proc/${2:-self}/ns/$1"; }
row pid_mode '`run --pid`: host, container:'
t_pid_mode() {
  is "$(docker run --rm --pid host $image readlink /proc/self/ns/pid)" "$(ns pid)"
  idle
  has "$(docker run --rm --pid container:box $image sh -c 'tr "\0" " " < /proc/1/cmdline')" '^sleep 100000'
  exits 137 docker run --rm --pid container:box $image sh -c 'kill -KILL $$' # not PID 1, so it may
  is "$(inspect .State.Status)" running
}

row pid_host_children '`run --pid host`: what it left behind is killed'
t_pid_host_children() {
  up --pid host -- sh -c 'sleep 100001 & echo ready; exec sleep 100000'
  await ready said ready
  docker kill box > /dev/null
  await "its end" ended
  await "the child's end" no_such_process 'sleep 100001'
}
no_such_process() { ! grep -zqs "^${1#* }" /proc/[0-9]*/cmdline; }

row ipc_mode '`run --ipc`: host, private, shareable, container:'
t_ipc_mode() {
  is "$(docker run --rm --ipc host $image readlink /proc/self/ns/ipc)" "$(ns ipc)"
  isnt "$(docker run --rm --ipc private $image readlink /proc/self/ns/ipc)" "$(ns ipc)"
  up --ipc shareable -- sh -c 'echo word > /dev/shm/f; echo ready; exec sleep 100000'
  await ready said ready
  is "$(docker run --rm --ipc container:box $image sh -c 'readlink /proc/self/ns/ipc; cat /dev/shm/f')" "$(ns ipc "$(pid)")"$'\nword'
}

row uts_mode '`run --uts host`'
t_uts_mode() { is "$(docker run --rm --uts host $image readlink /proc/self/ns/uts)" "$(ns uts)"; }

row cgroupns '`run --cgroupns`: host, private; `--cgroup-parent`'
t_cgroupns() {
  is "$(docker run --rm --cgroupns host $image readlink /proc/self/ns/cgroup)" "$(ns cgroup)"
  is "$(docker run --rm --cgroupns private $image sh -c 'grep -c ":/$" /proc/self/cgroup')" "$(grep -c : /proc/self/cgroup)"
  idle --cgroup-parent /above
  has "$(cgroup_of pids "$(pid)")" '/above/[0-9a-f]{64}$'
}

row volume '`run --volume`: read-write, `:ro`, a file, a named one with the image'"'s files"
t_volume() {
  mkdir -p "$d/share"; echo given > "$d/share/f"
  is "$(docker run --rm -v "$d/share:/mnt" $image sh -c 'cat /mnt/f; echo back > /mnt/g')" given
  is "$(cat "$d/share/g")" back
  exits 1 docker run --rm -v "$d/share:/mnt:ro" $image touch /mnt/h
  has "$(cat "$d/err")" 'Read-only file system'
  is "$(docker run --rm -v "$d/share/f:/etc/given:ro" $image cat /etc/given)" given
  docker volume create vol > /dev/null
  is "$(docker run --rm -v vol:/etc $image sh -c 'echo word > /etc/new; head -n 1 /etc/passwd')" root:x:0:0:root:/root:/bin/sh
  is "$(docker run --rm -v vol:/v $image cat /v/new)" word
  docker volume rm vol > /dev/null
}

row mount '`run --mount`: bind, readonly, bind-nonrecursive; `--volumes-from`'
t_mount() {
  mkdir -p "$d/tree/sub"
  mount -t tmpfs tmpfs "$d/tree/sub"; touch "$d/tree/sub/f"
  exits 1 docker run --rm --mount "type=bind,src=$d/tree,dst=/mnt,readonly" $image touch /mnt/x
  is "$(docker run --rm --mount "type=bind,src=$d/tree,dst=/mnt" $image ls /mnt/sub)" f
  is "$(docker run --rm --mount "type=bind,src=$d/tree,dst=/mnt,bind-nonrecursive=true" $image ls /mnt/sub)" ''
  umount "$d/tree/sub"
  docker run --name box -v /data $image sh -c 'echo word > /data/f'
  is "$(docker run --rm --volumes-from box $image cat /data/f)" word
}

row propagation '`run -v`: private, slave and shared mounts'
t_propagation() {
  local mode
  mkdir -p "$d/prop"
  mount --bind "$d/prop" "$d/prop"; mount --make-shared "$d/prop"
  mkdir -p "$d/prop"/{later,inside}
  for mode in rprivate rslave rshared; do
    docker run -d --name "$mode" --cap-add SYS_ADMIN -v "$d/prop:/mnt:$mode" $image sleep 100000 > /dev/null
  done
  mount -t tmpfs later "$d/prop/later"
  for mode in rslave rshared; do exits 0 docker exec "$mode" grep -q '/mnt/later' /proc/mounts; done
  exits 1 docker exec rprivate grep -q '/mnt/later' /proc/mounts
  docker exec rshared mount -t tmpfs inside /mnt/inside
  grep -q "$d/prop/inside" /proc/mounts || fail "what was mounted inside is not seen outside"
  docker exec rslave umount /mnt/inside
  docker exec rslave mount -t tmpfs inside /mnt/inside
  umount "$d/prop/inside"
  ! grep -q "$d/prop/inside" /proc/mounts || fail "what was mounted in the slave is seen outside"
  docker rm -f rprivate rslave rshared > /dev/null
  umount "$d/prop/later"; umount "$d/prop"
}

# --- networks. Their servers are busybox's httpd, in containers and out of them.
web() { up "$@" -- sh -c 'mkdir /w; echo page > /w/index.html; exec httpd -f -p 80 -h /w'; }
# (Its wget, as Debian links it, falls over its look for the name of a port.)
request='printf "GET / HTTP/1.0\r\n\r\n" | busybox nc -w 20'
fetch() { sh -c "$request $1 $2" | tail -n 1; }
page() { equals page fetch "$@"; }
page_inside() { [ "$(docker exec "$1" sh -c "$request $2 $3" | tail -n 1)" = page ]; }
# address_inside CONTAINER NAME: by Docker's own name server
address_inside() { docker exec "$1" nslookup "$2" 127.0.0.11 | sed -n 's/^Address: *\([0-9.]*\)$/\1/p'; }
resolves() { [ -n "$(address_inside "$@")" ]; }

row network_none '`run --network none`'
t_network_none() { is "$(docker run --rm --network none $image ls /sys/class/net)" lo; }

row network_host '`run --network host`'
t_network_host() { is "$(docker run --rm --network host $image readlink /proc/self/ns/net)" "$(ns net)"; }

row network_bridge '`run --network bridge`: an address, a way to the host'
t_network_bridge() {
  local gateway
  idle
  gateway=$(inspect .NetworkSettings.Gateway)
  has "$(docker exec box ip addr show eth0)" "inet $(inspect .NetworkSettings.IPAddress)/"
  mkdir -p "$d/web"; echo page > "$d/web/index.html"
  /bin/busybox httpd -f -p 8099 -h "$d/web" & server=$!
  trap 'kill $server' EXIT
  await "the host's page" page_inside box "$gateway" 8099
}

row publish '`run -p`, `port`: a published port, from outside and by the address'
t_publish() {
  web -p 127.0.0.1:8080:80
  is "$(docker port box)" '80/tcp -> 127.0.0.1:8080'
  await "the page" page 127.0.0.1 8080
  await "the page by its address" page "$(inspect .NetworkSettings.IPAddress)" 80
}

row publish_all '`run -P`, `--expose`'
t_publish_all() { web -P --expose 80; await "the page" page 127.0.0.1 "$(docker port box 80/tcp | head -n 1 | sed 's/.*://')"; }

row network_container '`run --network container:`'
t_network_container() {
  web
  await "the page" page "$(inspect .NetworkSettings.IPAddress)" 80
  is "$(docker run --rm --network container:box $image sh -c "$request 127.0.0.1 80" | tail -n 1)" page
  is "$(docker run --rm --network container:box $image readlink /proc/self/ns/net)" "$(ns net "$(pid)")"
}

row network_two '`network create`: two containers find each other by name, as with compose'
t_network_two() {
  docker network create --subnet 10.77.0.0/24 pair > /dev/null
  web --network pair --network-alias shop
  docker run -d --name client --network pair --ip 10.77.0.9 $image sleep 100000 > /dev/null
  await "an address of the name" resolves client box
  await "the page by the name" page_inside client "$(address_inside client box)" 80
  is "$(address_inside client shop)" "$(address_inside client box)"
  has "$(docker exec client ip addr show eth0)" 'inet 10.77.0.9/24'
  docker rm -f box client > /dev/null
  docker network rm pair > /dev/null
}

row network_connect '`network connect`, `disconnect` of a running container'
t_network_connect() {
  idle
  docker network create more > /dev/null
  docker network connect more box
  is "$(docker exec box ls /sys/class/net | paste -sd' ')" 'eth0 eth1 lo'
  docker network disconnect more box
  is "$(docker exec box ls /sys/class/net | paste -sd' ')" 'eth0 lo'
  docker network rm more > /dev/null
}

row mac_address '`run --mac-address`'
t_mac_address() { is "$(docker run --rm --mac-address 02:00:00:00:00:42 $image cat /sys/class/net/eth0/address)" 02:00:00:00:00:42; }
