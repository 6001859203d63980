# README's removal; nothing of ours is left.
interceptor kill demo
systemctl disable --quiet --now interceptor
interceptor uninstall --state
rm -rf /usr/bin/interceptor /etc/systemd/system/interceptor.service /etc/interceptor
systemctl daemon-reload
left=0
for path in /sys/fs/bpf/interceptor /run/interceptor /var/lib/interceptor /sys/fs/cgroup/agents.slice \
    /sys/fs/cgroup/interceptor; do
    if [ -e "$path" ]; then
        echo "left: $path"
        left=1
    fi
done
exit $left
