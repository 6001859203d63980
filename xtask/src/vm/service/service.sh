#!/bin/sh
# The program as README installs it, under the machine's own systemd; then the machine is turned off.
exec > /dev/console 2>&1
set -u
ask=/run/agent.ask
answer=/run/agent/answer
failed=0

check() {
    name=$1
    shift
    if "$@"; then
        echo "test service::$name ... ok"
    else
        failed=1
        echo "test service::$name ... FAILED"
        systemctl status --no-pager --full interceptor | tail -n 30
    fi
}
# Until COMMAND is so: everything here is emulated, so that a minute is not long.
until_so() {
    for _ in $(seq 600); do
        if "$@" > /dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    echo "never so: $*"
    return 1
}
property() { systemctl show --value --property "$1" interceptor; }
started_again() { [ "$(property NRestarts)" = "$1" ] && [ "$(property ActiveState)" = active ]; }
came() { wc -c < /run/came; }
# What comes of the agent's reaching for the target.
tries() {
    rm -f $answer
    echo now > $ask
    until_so test -e $answer || return 1
    said=$(cat $answer)
    [ "$said" = "$1" ] || { echo "the agent: $said, and not $1"; return 1; }
}
# While nobody may pass, nobody came.
refused() {
    before=$(came)
    tries "$1" && [ "$(came)" = "$before" ]
}

install() {
    mkdir -p /etc/interceptor/secrets
    cp /tier/interceptor /usr/bin/interceptor
    cp -r /tier/policies /etc/interceptor/policies
    cp /tier/service/config.yaml /etc/interceptor/config.yaml
    (umask 077 && echo secret > /etc/interceptor/secrets/orders)
    cp /tier/service/interceptor.service /etc/systemd/system/
    : > /run/came
    mkfifo $ask
    systemd-run --quiet --unit far python3 /tier/service/far.py /run/came
    systemd-run --quiet --unit agent -p User=nobody -p RuntimeDirectory=agent \
        python3 /tier/service/agent.py $ask $answer
    systemctl daemon-reload
}

begins() { systemctl enable --quiet --now interceptor && [ "$(property ActiveState)" = active ]; }
is_well() { interceptor status && interceptor doctor; [ $? -le 1 ]; }
takes_a_unit() { interceptor tag --unit agent.service --agent demo && tries answered; }
# A service with the drop-in is in its scope before it starts, and left with as little as a command of `run`.
starts_an_agent() {
    unit=/etc/systemd/system/probe.service
    printf '[Service]\nType=oneshot\nUser=nobody\nExecStart=python3 /tier/service/probe.py\nStandardOutput=truncate:%s\n' \
        /run/probe > $unit
    mkdir -p $unit.d
    cp /tier/service/agent.conf $unit.d/interceptor.conf
    systemctl daemon-reload
    before=$(came)
    systemctl start probe || { systemctl status --no-pager --full probe | tail -n 30; return 1; }
    cat /run/probe
    for word in CapBnd=0000000000000000 NoNewPrivs=1 Seccomp=2 etc=EACCES control=EACCES packets=EAFNOSUPPORT \
        vsock=EAFNOSUPPORT authority=ok answered; do
        grep -q "$word" /run/probe || { echo "not $word"; return 1; }
    done
    [ "$(came)" = "$before" ] || return 1
    # Without a daemon that tags it, it does not start; what it wants would start that one.
    systemctl stop interceptor
    systemctl start --job-mode=ignore-dependencies probe && { echo "it started without a scope"; return 1; }
    systemctl start interceptor
}
comes_back() {
    restarts=$(property NRestarts)
    kill -KILL "$(property MainPID)"
    until_so started_again $((restarts + 1)) && tries answered
}
hangs() {
    restarts=$(property NRestarts)
    kill -STOP "$(property MainPID)"
    until_so started_again $((restarts + 1)) && tries answered
}
reloads() {
    systemctl reload interceptor || return 1
    echo 'permit (principal' > /etc/interceptor/policies/broken.cedar
    if systemctl reload interceptor; then echo "a broken policy was taken"; return 1; fi
    rm /etc/interceptor/policies/broken.cedar
    tries answered && systemctl reload interceptor
}
stops() {
    systemctl stop interceptor
    refused ECONNREFUSED
    was=$?
    systemctl start interceptor && tries answered && return $was
}
# Says it for the table, too.
proof() {
    interceptor doctor --prove --report /run/boundary.json > /run/proof
    was=$?
    cat /run/proof
    echo "vm: proof $1 $(grep ' ways, ' /run/proof)"
    return $was
}
proves() { proof scopes; }
proves_with_the_host() {
    echo 'guard: host' >> /etc/interceptor/config.yaml
    systemctl restart interceptor && proof host
}

install
check begins_and_says_that_it_is_ready begins
check is_well_in_its_own_eyes is_well
check takes_a_unit_of_the_system takes_a_unit
check starts_an_agent_within_its_scope starts_an_agent
check comes_back_when_it_is_killed comes_back
check is_started_again_when_it_hangs hangs
check takes_files_that_are_right_and_no_others reloads
check refuses_while_it_is_stopped stops
check leaves_no_way_out proves
check leaves_none_where_the_host_is_guarded proves_with_the_host
check is_taken_away_whole sh -eu /tier/service/removal.sh
echo "vm: ended $((failed + $(cat /tier/code)))"
sync
systemctl poweroff --force --force
