# shellcheck shell=bash
# Networks, with a published port where there is one.

# answers PORT: a web server behind it says "served"
answers() { [ "$(timeout 5 busybox wget -q -O - "http://127.0.0.1:$1/" 2> /dev/null)" = served ]; }
# serve OPTIONS...: a web server on port 80 in container c
serve() { p run -d --name c "$@" $image sh -c 'mkdir /www; echo served > /www/index.html; exec httpd -f -h /www -p 80' > /dev/null; }

case_network_none() {
  is "$(run --network none $image sh -c 'ls /sys/class/net')" lo
  is "$(run --network none $image ip -o -4 addr show lo | grep -c 127.0.0.1)" 1
}
case_network_host() { is "$(run --network host $image readlink /proc/self/ns/net)" "$(readlink /proc/self/ns/net)"; }
root_network_bridge() {
  serve --network bridge -p 127.0.0.1:18080:80
  is "$(p port c)" '80/tcp -> 127.0.0.1:18080'
  await answers 18080
  has "$(p exec c ip -o addr show eth0)" 'inet 10\.88\.'
  is "$(run --network bridge $image wget -q -O - "http://$(p inspect --format '{{.NetworkSettings.IPAddress}}' c)/")" served
  p restart -t 0 c > /dev/null
  await answers 18080
}
root_network_of_a_user() {
  p network create --subnet 10.77.0.0/24 n > /dev/null
  exits 0 run --network n --ip 10.77.0.9 --mac-address 92:d0:c6:0a:29:33 $image ip addr show eth0
  has "$(cat "$d/out")" '10\.77\.0\.9/24'
  has "$(cat "$d/out")" '92:d0:c6:0a:29:33'
  background c
  remove c
  p network rm n > /dev/null
}
root_network_connect() {
  p network create n > /dev/null
  background c --network bridge
  p network connect n c
  has "$(p exec c ls /sys/class/net | tr '\n' ' ')" 'eth1'
  p network disconnect n c
  remove c
  p network rm n > /dev/null
}
case_network_slirp4netns() {
  serve --network slirp4netns -p 127.0.0.1:18081:80
  await answers 18081
  has "$(p exec c ip -o addr show tap0)" 'inet 10\.0\.2\.100'
}
user_network_bridge() {
  serve --network bridge -p 127.0.0.1:18082:80
  await answers 18082
  has "$(p exec c ip -o addr show eth0)" 'inet 10\.88\.'
}
case_network_of_a_container() {
  serve --network slirp4netns
  is "$(run --network container:c $image wget -q -O - http://127.0.0.1/)" served
}
case_network_files() {
  is "$(run --network slirp4netns --dns 192.0.2.1 --dns-search example.test $image grep -cE '192.0.2.1|example.test' /etc/resolv.conf)" 2
  is "$(run --add-host there:192.0.2.7 --network slirp4netns $image grep -c '192.0.2.7.there' /etc/hosts)" 1
  is "$(run --hostname box --network slirp4netns $image sh -c 'hostname; grep -c box /etc/hosts')" $'box\n1'
  exits 0 run --no-hosts $image sh -c '! grep -q "container" /etc/hosts'
}
root_network_by_path() {
  ip netns add given
  is "$(run --network ns:/run/netns/given $image readlink /proc/self/ns/net)" "$(ip netns exec given readlink /proc/self/ns/net)"
  ip netns del given
}
