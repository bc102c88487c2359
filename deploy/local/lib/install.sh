# Installs what is missing, as far as this user may.

# COMMAND PACKAGE...
need() {
    local command="$1"
    shift
    command -v "$command" >/dev/null || missing="$missing $*"
}

install_what_is_missing() {
    local missing=""
    need redis-server redis-server
    need redis-cli redis-tools
    need memcached memcached
    need java openjdk-17-jre-headless
    [ -f "$(kafka_libs)/complete" ] || need mvn maven
    postgres_bin >/dev/null || missing="$missing postgresql"
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        die "missing:$missing. Install them, or use deploy/compose/compose.yaml"
    fi
    echo "services: installing$missing"
    # No server of the packages' own: neither a first database nor a start behind the installation.
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    fi
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of packages
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o Dpkg::Options::=--force-confold $missing >"$folder/logs/install.log" 2>&1 ||
        { tail -n 20 "$folder/logs/install.log" >&2; die "apt-get install$missing failed"; }
}
