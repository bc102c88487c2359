# memcached.

memcached_up() {
    runs memcached && return 0
    local user=()
    [ "$(id -u)" -ne 0 ] || user=(-u nobody)
    start memcached memcached "${user[@]}" -l 127.0.0.1 -p "$(port_of memcached)" -U 0 -m 64 -t 2
    wait_for_port memcached 20
}
