# Apache Kafka in KRaft mode, from the artifacts of Maven Central: one broker, or three with every partition on each.
# Each process is broker and controller.

kafka_version() { sed -n 's/.*<kafka.version>\(.*\)<\/kafka.version>.*/\1/p' "$here/kafka/pom.xml"; }

# Fetched once for a user.
kafka_libs() { echo "${XDG_CACHE_HOME:-$HOME/.cache}/hongbao/kafka-$(kafka_version)"; }

kafka_names() { for name in $servers; do case "$name" in kafka_*) echo "$name" ;; esac done; }

kafka_url() {
    local name places=""
    for name in $(kafka_names); do
        places="$places,127.0.0.1:$(port_of "$name")"
    done
    echo "${places#,}"
}

kafka_fetch() {
    local libs
    libs="$(kafka_libs)"
    [ ! -f "$libs/complete" ] || return 0
    echo "services: fetching Kafka $(kafka_version)"
    mkdir -p "$libs"
    mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$libs" >"$folder/logs/kafka_fetch.log" 2>&1 ||
        { tail -n 20 "$folder/logs/kafka_fetch.log" >&2; die "Kafka could not be fetched"; }
    touch "$libs/complete"
}

kafka_java() {
    java -cp "$(kafka_libs)/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true \
        -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS "$@"
}

kafka_up() {
    local name
    kafka_fetch
    [ -s "$folder/pids/kafka.id" ] || head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | cut -c1-22 >"$folder/pids/kafka.id"
    for name in $(kafka_names); do
        runs "$name" || kafka_start "$name"
    done
}

kafka_start() {
    local name="$1" alone=() heap=512m compiler=""
    mkdir -p "$folder/$name"
    kafka_properties "$name" >"$folder/$name/server.properties"
    # Three young brokers on one machine spend more on compiling themselves well than on their work.
    if [ "$replicated" = yes ]; then heap=320m compiler=-XX:TieredStopAtLevel=1; else alone=(--standalone); fi
    if [ ! -f "$folder/$name/data/meta.properties" ]; then
        kafka_java -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format "${alone[@]}" -t "$(cat "$folder/pids/kafka.id")" \
            -c "$folder/$name/server.properties" >"$folder/logs/$name.log" 2>&1 ||
            { tail -n 20 "$folder/logs/$name.log" >&2; die "$name: no storage was made"; }
    fi
    start "$name" java -cp "$(kafka_libs)/*" -Xms128m -Xmx"$heap" -XX:+UseSerialGC $compiler \
        -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true \
        -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS kafka.Kafka "$folder/$name/server.properties"
}

kafka_wait() {
    local name
    for name in $(kafka_names); do
        wait_for_port "$name" 90
    done
}

kafka_properties() {
    local name="$1" number="${1#kafka_}" copies=1 in_sync=1
    if [ "$replicated" = yes ]; then
        copies=3
        in_sync=2
        echo "controller.quorum.voters=1@127.0.0.1:$(port_of controller_kafka_1),2@127.0.0.1:$(port_of controller_kafka_2),3@127.0.0.1:$(port_of controller_kafka_3)"
    else
        echo "controller.quorum.bootstrap.servers=127.0.0.1:$(port_of controller_kafka_1)"
    fi
    cat <<PROPERTIES
process.roles=broker,controller
node.id=$number
listeners=PLAINTEXT://127.0.0.1:$(port_of "$name"),CONTROLLER://127.0.0.1:$(port_of "controller_$name")
advertised.listeners=PLAINTEXT://127.0.0.1:$(port_of "$name")
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs=$folder/$name/data
default.replication.factor=$copies
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$in_sync
share.coordinator.state.topic.num.partitions=4
unclean.leader.election.enable=false
auto.create.topics.enable=false
delete.topic.enable=true
group.initial.rebalance.delay.ms=0
# A broker that is gone must cost players less than 5 s. If it led the controllers too, these times add up: the others notice
# (fetch timeout) and elect (election timeout), and the new one gives every broker a session anew before it takes one's
# partitions away. A controller that stalls for long in between is elected away, and everything begins again: so not less.
controller.quorum.fetch.timeout.ms=1000
controller.quorum.election.timeout.ms=300
broker.session.timeout.ms=1800
broker.heartbeat.interval.ms=300
replica.lag.time.max.ms=5000
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
log.segment.bytes=67108864
log.retention.ms=86400000
PROPERTIES
}
