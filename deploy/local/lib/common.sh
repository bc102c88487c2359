# Ports, processes and their files. Sourced by `services`, which sets $folder.

upper() { printf '%s' "$1" | tr '[:lower:]' '[:upper:]'; }

die() {
    echo "services: $*" >&2
    exit 1
}

# One `services` at a time for a folder; the lock goes with the process.
lock() {
    mkdir -p "$folder"
    command -v flock >/dev/null || return 0
    exec 9>"$folder/lock"
    flock -w 300 9 || die "another 'services' has held $folder/lock for 5 minutes"
}

# The port of a server: chosen once, then kept. Below the range that the system gives to outgoing connections.
port_of() {
    local file="$folder/pids/$1.port" port
    if [ ! -s "$file" ]; then
        while :; do
            port=$((15000 + (RANDOM * 32768 + RANDOM) % 15000))
            grep -qsx "$port" "$folder"/pids/*.port && continue
            port_answers "$port" || break
        done
        echo "$port" >"$file"
    fi
    cat "$file"
}

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

pid_of() { cat "$folder/pids/$1.pid" 2>/dev/null || true; }

# Whether the process of the written number is still that server, not another one that got the number later.
runs() {
    local pid
    pid="$(pid_of "$1")"
    [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || return 1
    case "$(command_line "$pid")" in
    *"$(mark_of "$1")"*) return 0 ;;
    *) return 1 ;;
    esac
}

command_line() {
    if [ -r "/proc/$1/cmdline" ]; then
        tr '\0' ' ' <"/proc/$1/cmdline"
    else
        ps -o command= -p "$1" 2>/dev/null || true
    fi
}

# What stands in a server's command line and in no other's.
mark_of() {
    case "$1" in
    postgres_*) postgres_data "$1" ;;
    kafka_*) echo "$folder/$1/" ;;
    redis_*) echo ":$(port_of "$1")" ;;
    *) echo "-p $(port_of "$1")" ;;
    esac
}

# A primary that was replaced is not expected to run.
is_expected() { [ "$1" != postgres_primary ] || [ ! -f "$folder/promoted" ]; }

# Runs a server in the background, apart from this shell. NAME COMMAND...
start() {
    local name="$1"
    shift
    setsid nohup "$@" >>"$folder/logs/$name.log" 2>&1 </dev/null 9>&- &
    echo $! >"$folder/pids/$name.pid"
}

# Waits until a server answers on its port. NAME SECONDS
wait_for_port() {
    local tries=$(($2 * 20))
    until port_answers "$(port_of "$1")"; do
        tries=$((tries - 1))
        # Its command line may still be that of this shell.
        if ! kill -0 "$(pid_of "$1")" 2>/dev/null || [ "$tries" -le 0 ]; then
            tail -n 20 "$folder/logs/$1.log" >&2 || true
            die "$1 did not come up on 127.0.0.1:$(port_of "$1"); its log is $folder/logs/$1.log"
        fi
        sleep 0.05
    done
}

# Asks a server to end, and makes it after 15 s.
stop() {
    local name="$1" pid tries=300 signal=TERM
    runs "$name" || return 0
    pid="$(pid_of "$name")"
    # PostgreSQL: end its clients too, not only when the last of them has gone.
    case "$name" in postgres_*) signal=INT ;; esac
    kill "-$signal" "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || kill -KILL "$pid" 2>/dev/null || true
        sleep 0.05
    done
    rm -f "$folder/pids/$name.pid"
}
