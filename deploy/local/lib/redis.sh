# Redis: one server, or a cluster of three masters with a replica each. Nothing of it is kept over a restart: whatever is
# in Redis can be lost without harm.

redis_names() { for name in $servers; do case "$name" in redis_*) echo "$name" ;; esac done; }

redis_url() {
    local name places=""
    for name in $(redis_names); do
        places="$places,redis://127.0.0.1:$(port_of "$name")"
    done
    echo "${places#,}"
}

redis_up() {
    local name fresh=no
    for name in $(redis_names); do
        runs "$name" && continue
        mkdir -p "$folder/$name"
        if [ "$replicated" = yes ]; then
            [ -f "$folder/$name/nodes.conf" ] || fresh=yes
            start "$name" redis-server --bind 127.0.0.1 --port "$(port_of "$name")" --dir "$folder/$name" --save '' \
                --appendonly no --cluster-enabled yes --cluster-port "$(port_of "bus_$name")" \
                --cluster-config-file nodes.conf --cluster-node-timeout 2000
        else
            start "$name" redis-server --bind 127.0.0.1 --port "$(port_of "$name")" --dir "$folder/$name" --save '' \
                --appendonly no
        fi
    done
    for name in $(redis_names); do
        wait_for_port "$name" 20
    done
    [ "$replicated" = yes ] || return 0
    [ "$fresh" = no ] || redis_join
    redis_wait
}

redis_join() {
    local name places=()
    for name in $(redis_names); do
        places+=("127.0.0.1:$(port_of "$name")")
    done
    redis-cli --cluster create "${places[@]}" --cluster-replicas 1 --cluster-yes >>"$folder/logs/redis_cluster.log" 2>&1 ||
        die "no Redis Cluster could be made; see $folder/logs/redis_cluster.log, and 'wipe --replicated' begins anew"
}

redis_wait() {
    local tries=400
    until redis-cli -p "$(port_of redis_1)" cluster info 2>/dev/null | grep -q 'cluster_state:ok'; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || die "the Redis Cluster does not come together; see $folder/logs/redis_1.log"
        sleep 0.05
    done
}
