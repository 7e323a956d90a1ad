# bash completion for sstrace. Made by scripts/manual.

_sstrace() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
    COMPREPLY=()
    case $previous in
    --family) COMPREPLY=($(compgen -W "inet inet6 link unix netlink vsock tipc xdp" -- "$current")); return ;;
    --socket) COMPREPLY=($(compgen -W "all inet tcp mptcp udp raw unix unix_dgram unix_stream unix_seqpacket packet packet_raw packet_dgram netlink dccp sctp vsock_stream vsock_dgram tipc xdp" -- "$current")); return ;;
    --query) COMPREPLY=($(compgen -W "all inet tcp mptcp udp raw unix unix_dgram unix_stream unix_seqpacket packet packet_raw packet_dgram netlink dccp sctp vsock_stream vsock_dgram tipc xdp" -- "$current")); return ;;
    --from) COMPREPLY=($(compgen -W "netlink live" -- "$current")); return ;;
    --speed) COMPREPLY=($(compgen -W "1 10 100 max" -- "$current")); return ;;
    --schema) COMPREPLY=($(compgen -W "native ecs otel" -- "$current")); return ;;
    --sink) COMPREPLY=($(compgen -W "stdout journald syslog otlp" -- "$current")); return ;;
    --on-full) COMPREPLY=($(compgen -W "block drop" -- "$current")); return ;;
    --color) COMPREPLY=($(compgen -W "auto always never" -- "$current")); return ;;
    --time) COMPREPLY=($(compgen -W "clock iso utc delta relative" -- "$current")); return ;;
    -f) COMPREPLY=($(compgen -W "inet inet6 link unix netlink vsock tipc xdp" -- "$current")); return ;;
    -A) COMPREPLY=($(compgen -W "all inet tcp mptcp udp raw unix unix_dgram unix_stream unix_seqpacket packet packet_raw packet_dgram netlink dccp sctp vsock_stream vsock_dgram tipc xdp" -- "$current")); return ;;
    -N|--net) COMPREPLY=($(compgen -W "$(ls /run/netns 2>/dev/null)" -- "$current")); return ;;
    --diag|--filter|--output|--ready-file|--record|--replay|-F|-D) COMPREPLY=($(compgen -f -- "$current")); return ;;
    state|exclude|from|to) COMPREPLY=($(compgen -W "established syn-sent syn-recv fin-wait-1 fin-wait-2 time-wait closed close-wait last-ack listening closing all connected synchronized bucket big" -- "$current")); return ;;
    esac
    case $current in
    --*) COMPREPLY=($(compgen -W "--all --at --between --bound-inactive --bpf --bpf-map-id --bpf-maps --cgroup --color --context --contexts --count --dccp --debug --diag --doctor --duration --events --extended --family --filter --from --group --help --inet-sockopt --info --interval --ipv4 --ipv6 --json --keep --keep-privileges --kill --listening --memory --metrics --mptcp --net --no-baseline --no-header --no-queues --numeric --on-full --oneline --options --output --packet --poll --processes --query --raw --ready-file --record --replay --resolve --rotate --schema --sctp --self-usage --serve --sink --snapshot --socket --speed --ss-version --stats --summary --tcp --threads --time --tipc --tipcinfo --tos --udp --unix --verify --version --vsock --watch --xdp" -- "$current")) ;;
    -*) COMPREPLY=($(compgen -W "-n -r -o -e -m -i -p -T -b -E -t -S -u -w -x -a -l -4 -6 -0 -f -A -s -D -F -V -v -h -Z -z -N -K -H -M -O" -- "$current")) ;;
    *) COMPREPLY=($(compgen -W "state exclude from to ended src dst sport dport dev fwmark cgroup autobound held and or not" -- "$current")) ;;
    esac
}
complete -F _sstrace sstrace
