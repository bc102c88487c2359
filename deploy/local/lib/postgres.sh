# PostgreSQL: one server, or a primary with a synchronous standby.

# The newest installed server's programs.
postgres_bin() {
    local bin
    bin="$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -n | tail -n 1)"
    [ -n "$bin" ] || bin="$(dirname "$(command -v postgres 2>/dev/null || echo /none/postgres)")"
    [ -x "$bin/postgres" ] && echo "$bin"
}

# PostgreSQL refuses to run as root.
as_postgres() {
    if [ "$(id -u)" -ne 0 ]; then
        "$@"
    else
        (cd / && runuser -u "$(postgres_user)" -- "$@")
    fi
}

postgres_user() { if id postgres >/dev/null 2>&1; then echo postgres; else echo nobody; fi; }

# Its data lies in $folder, or where its user can get at it if $folder is below a folder of root's own.
postgres_home() {
    local home="$folder/postgres"
    if [ "$(id -u)" -eq 0 ] && ! (cd / && runuser -u "$(postgres_user)" -- test -x "$folder"); then
        home="/var/tmp/hongbao-postgres-$(printf '%s' "$folder" | cksum | cut -d' ' -f1)"
    fi
    echo "$home"
}

postgres_data() { echo "$(postgres_home)/${1#postgres_}"; }

postgres_password() { cat "$folder/pids/postgres.password"; }

postgres_url() {
    local places database=postgres
    places="127.0.0.1:$(port_of postgres_primary)"
    if [ "$replicated" = yes ]; then
        places="$places,127.0.0.1:$(port_of postgres_standby)"
        database=hongbao
    fi
    echo "postgres://hongbao:$(postgres_password)@$places/$database"
}

postgres_up() {
    local home
    home="$(postgres_home)"
    # What was promoted can't follow again: a new pair is made once both are down.
    if [ -f "$folder/promoted" ] && ! runs postgres_standby; then
        rm -rf "$home" "$folder/promoted"
    fi
    mkdir -p "$home"
    [ "$(id -u)" -ne 0 ] || chown "$(postgres_user)" "$home"
    if [ ! -s "$folder/pids/postgres.password" ]; then
        (umask 077 && head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$folder/pids/postgres.password")
    fi
    if is_expected postgres_primary; then
        postgres_init
        if [ "$replicated" = yes ]; then
            postgres_start postgres_primary -c synchronous_standby_names=standby
        else
            postgres_start postgres_primary
        fi
    fi
    [ "$replicated" = yes ] || return 0
    if [ ! -f "$home/standby/PG_VERSION" ]; then
        rm -rf "$home/standby"
        as_postgres "$(postgres_bin)/pg_basebackup" -D "$home/standby" -R -X stream -c fast -d \
            "host=127.0.0.1 port=$(port_of postgres_primary) user=hongbao password=$(postgres_password)" \
            >>"$folder/logs/postgres_standby.log" 2>&1 || die "no base backup; see $folder/logs/postgres_standby.log"
    fi
    # Its name is what the primary waits for; once promoted it waits for nobody.
    postgres_start postgres_standby -c cluster_name=standby -c synchronous_standby_names=
    postgres_make_database
}

postgres_init() {
    local data password
    data="$(postgres_data postgres_primary)"
    [ ! -f "$data/PG_VERSION" ] || return 0
    password="$(postgres_home)/password"
    (umask 077 && postgres_password >"$password")
    [ "$(id -u)" -ne 0 ] || chown "$(postgres_user)" "$password"
    as_postgres "$(postgres_bin)/initdb" -D "$data" -U hongbao -E UTF8 --locale=C -A scram-sha-256 --pwfile="$password" \
        >>"$folder/logs/postgres_primary.log" 2>&1 || die "initdb failed; see $folder/logs/postgres_primary.log"
    rm -f "$password"
}

# NAME OPTION...
postgres_start() {
    local name="$1" data log
    shift
    runs "$name" && return 0
    data="$(postgres_data "$name")"
    log="$(postgres_home)/$name.log"
    # What a test needs at once: many connections from many test binaries. What safety needs is left as it is (fsync, full pages).
    as_postgres "$(postgres_bin)/pg_ctl" start -s -w -t 60 -D "$data" -l "$log" -o "-c listen_addresses=127.0.0.1 \
        -c port=$(port_of "$name") -c unix_socket_directories= -c max_connections=400 -c shared_buffers=128MB \
        -c max_wal_size=1GB -c hot_standby=on $*" 9>&- || { tail -n 20 "$log" >&2; die "$name did not start; its log is $log"; }
    head -n 1 "$data/postmaster.pid" >"$folder/pids/$name.pid"
}

postgres_sql() { # DATABASE STATEMENT
    local home
    home="$(postgres_url)"
    "$(postgres_bin)/psql" -X -q -A -t -v ON_ERROR_STOP=1 -c "$2" "${home%/*}/$1?target_session_attrs=read-write"
}

postgres_make_database() {
    local tries=200
    until [ "$(postgres_sql postgres "SELECT COUNT(*) FROM pg_stat_replication WHERE sync_state = 'sync'" || true)" = 1 ] ||
        [ -f "$folder/promoted" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || die "the standby of PostgreSQL does not follow; see $(postgres_home)/postgres_standby.log"
        sleep 0.05
    done
    if [ -z "$(postgres_sql postgres "SELECT 1 FROM pg_database WHERE datname = 'hongbao'")" ]; then
        postgres_sql postgres "CREATE DATABASE hongbao"
    fi
}

# The standby takes over. A primary that still runs is killed first: two of them must never take writes.
postgres_promote() {
    local data
    [ ! -f "$folder/promoted" ] || return 0
    runs postgres_standby || die "the standby does not run, so it can't be promoted"
    if runs postgres_primary; then
        kill -KILL "$(pid_of postgres_primary)"
    fi
    touch "$folder/promoted"
    data="$(postgres_data postgres_standby)"
    as_postgres "$(postgres_bin)/pg_ctl" promote -s -w -t 60 -D "$data" || die "the standby was not promoted"
    echo "services: 127.0.0.1:$(port_of postgres_standby) takes writes now"
}

postgres_wipe() { rm -rf "$(postgres_home)"; }
