# bash completion for sstrace. As sstrace --completions prints it.

# What may follow, in terms of $value, the word so far.
_sstrace_words() { # WORDS [,]: joined by commas
    local before=
    [[ $2 && $value == *,* ]] && before=${value%,*},
    mapfile -t COMPREPLY < <(compgen -P "$before" -W "$1" -- "${value#"$before"}")
}
_sstrace_files() { # [WORD:]: behind which they stand
    [[ $value == "$1"* ]] || return
    compopt -o filenames 2>/dev/null
    local path=${value#"$1"}
    mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -P "$1" -f -- "${path//\\/}")
}
_sstrace_names() { # DIRECTORY that has them. Quoted: whoever gave a name must not have typed a command.
    local path
    for path in "$1"/*; do
        [[ -e $path || -L $path ]] || continue
        printf -v path %q "${path##*/}"
        [[ $path != "$value"* ]] || COMPREPLY+=("$path")
    done
}

_sstrace() {
    # bash breaks words at : and =, unless it has been told otherwise. $kept: the part that it will not replace.
    local at=$COMP_CWORD last=${COMP_WORDS[COMP_CWORD]} value= kept= glued= equals= option
    if [[ $last != = ]]; then
        value=$last
        ((at--))
        while ((at > 0)) && [[ ${COMP_WORDS[at]} != = && ($value == :* || ${COMP_WORDS[at]} == :) ]]; do
            value=${COMP_WORDS[at]}$value
            ((at--))
        done
        kept=$value
        [[ $last == : ]] || kept=${value%"$last"}
    fi
    option=${COMP_WORDS[at]}
    if [[ $value == --*=* ]]; then
        equals=1 option=${value%%=*} glued=${value%%=*}= value=${value#*=}
    elif [[ $option == = ]]; then
        equals=1 option=${COMP_WORDS[at - 1]}
    fi
    # -tnA is -A by now; what need not have an argument has it behind =; the second argument is its first one's kind.
    [[ $option == -[!-]* ]] && option=-${option: -1}
    [[ ! $equals && $option == @(--fleet-schema|--metrics|--serve) ]] && option=
    ((at > 1)) && [[ ${COMP_WORDS[at - 1]} == --between ]] && option=--between

    COMPREPLY=()
    case $option in
    --at) : ;;
    --between) : ;;
    --bpf-map-id) : ;;
    --color) _sstrace_words "auto always never" ;;
    --columns) _sstrace_words "time host netns netid from to held lasted process uid role local peer peer-process cause sent received rtt retransmits container pod unit" , ;;
    --completions) _sstrace_words "bash zsh fish" ;;
    --count) : ;;
    -D | --diag) _sstrace_files ;;
    --duration) : ;;
    --events) _sstrace_words "state retransmit reset drop error overflow all" , ;;
    --explain) : ;;
    -f | --family) _sstrace_words "inet inet6 unix link netlink vsock tipc xdp" ;;
    -F | --filter) _sstrace_files ;;
    --fleet-schema) : ;;
    --from) _sstrace_words "netlink live"; _sstrace_files live:; _sstrace_files ;;
    --group) mapfile -t COMPREPLY < <(compgen -g -- "$value") ;;
    --host) : ;;
    --html) _sstrace_files ;;
    --interval) : ;;
    --keep) : ;;
    --metrics) : ;;
    --metrics-by) _sstrace_words "port unit container pod netns owner" , ;;
    -N | --net) _sstrace_names /run/netns ;;
    --netns) _sstrace_words "all $(ls /run/netns 2>/dev/null)" , ;;
    --on-full) _sstrace_words "block drop" ;;
    --output) _sstrace_files ;;
    --parquet) _sstrace_files ;;
    --poll) : ;;
    -A | --query) _sstrace_words "all inet tcp mptcp dccp udp raw sctp unix unix_dgram unix_stream unix_seqpacket packet packet_dgram packet_raw netlink vsock vsock_stream vsock_dgram tipc xdp" , ;;
    --ready-file) _sstrace_files ;;
    --record) _sstrace_files ;;
    --replay) _sstrace_files ;;
    --rotate) : ;;
    --schema) _sstrace_words "native ecs otel" ;;
    --serve) _sstrace_files ;;
    --sink) _sstrace_words "stdout journald syslog otlp clickhouse"; _sstrace_files syslog: ;;
    --socket) _sstrace_words "all inet tcp mptcp dccp udp raw sctp unix unix_dgram unix_stream unix_seqpacket packet packet_dgram packet_raw netlink vsock vsock_stream vsock_dgram tipc xdp" , ;;
    --speed) _sstrace_words "1 10 100 max" ;;
    --spool) _sstrace_files ;;
    --ss-version) : ;;
    --time) _sstrace_words "clock iso utc delta relative" ;;
    state | exclude) _sstrace_words "established syn-sent syn-recv fin-wait-1 fin-wait-2 time-wait closed close-wait last-ack listening closing all connected synchronized bucket big" ;;
    from | to) _sstrace_words "established syn-sent syn-recv fin-wait-1 fin-wait-2 time-wait closed close-wait last-ack listening closing all connected synchronized bucket big" , ;;
    dev) _sstrace_names /sys/class/net ;;
    role) _sstrace_words "client server" ;;
    cause) _sstrace_words "fin-by-us fin-by-peer closed abandoned reset-received reset-sent completed linger disconnected refused unreachable connect-failed timeout-connect timeout-synack timeout-retransmit timeout-keepalive timeout-probe timeout-fin-wait-2 expired reused killed listener-closed overflow out-of-memory netns-gone subflow unknown" ;;
    src | dst | sport | dport | fwmark | cgroup | port | host | pid | comm | user | container | pod | unit | netns | held | lifetime | rtt | sent | received | retransmits | [=!\<\>]*) ;;
    *)
        case $value in
        --*) _sstrace_words "--all --at --between --bound-inactive --bpf --bpf-map-id --bpf-maps --cgroup --color --columns --completions --context --contexts --count --dccp --debug --diag --doctor --duration --events --explain --extended --family --filter --fleet-schema --from --group --help --host --html --inet-sockopt --info --interval --ipv4 --ipv6 --json --keep --keep-privileges --kill --life --listening --memory --metrics --metrics-by --mptcp --net --netns --no-baseline --no-header --no-queues --numeric --on-full --oneline --options --output --packet --parquet --poll --processes --query --quiet --raw --ready-file --record --replay --resolve --rotate --schema --sctp --self-usage --serve --sink --snapshot --socket --speed --spool --ss-version --stats --summary --tcp --threads --time --tipc --tipcinfo --tos --udp --unix --verify --version --vsock --watch --xdp" ;;
        -*) _sstrace_words "-n -r -o -e -m -i -p -T -b -E -t -S -u -w -x -a -l -4 -6 -0 -f -A -s -D -F -V -v -h -Z -z -N -K -H -M -O -q" ;;
        *) _sstrace_words "state exclude from to ended src dst sport dport dev fwmark cgroup port host pid comm user container pod unit role cause netns held lifetime rtt sent received retransmits autobound and or not" ;;
        esac
        ;;
    esac
    COMPREPLY=("${COMPREPLY[@]/#/$glued}")
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
}
complete -F _sstrace sstrace
