# fish completion for sstrace. As sstrace --completions prints it.

function __sstrace_behind # any of these words, and perhaps an operator
    set -l before (string match -v -r -- '^[=!<>]+$' (commandline -poc))
    contains -- $before[-1] $argv
end

function __sstrace_second # of the arguments of --between
    test "$(commandline -poc)[-2]" = --between
end

function __sstrace_list # these words, joined by commas
    set -l token (string replace -r -- '^--[a-z-]+=' '' (commandline -t))
    printf '%s\n' (string replace -r -- '[^,]*$' '' $token)$argv
end

function __sstrace_files # behind this word and a colon
    set -l token (string split -m 1 : (string replace -r -- '^--[a-z-]+=' '' (commandline -t)))
    test "$token[1]" = $argv; and set -q token[2]; or return
    set -l files $token[2]* # empty where there are none
    test -n "$files"; and printf "$argv:%s\n" $files
end

complete -c sstrace -f
complete -c sstrace -s a -l all -d 'display all sockets'
complete -c sstrace -l at -x -d 'with --snapshot and a recording: the table as it was then; --watch begins there'
complete -c sstrace -l between -x -d 'with a recording: only this part of it; with --snapshot, what changed'
complete -c sstrace -l bound-inactive -d 'display TCP bound but inactive sockets'
complete -c sstrace -s b -l bpf -d 'show bpf filter socket information'
complete -c sstrace -l bpf-map-id -x -d 'show a BPF socket-local storage map'
complete -c sstrace -l bpf-maps -d 'show all BPF socket-local storage maps'
complete -c sstrace -l cgroup -d 'show cgroup information'
complete -c sstrace -l color -x -a 'auto always never' -d '{auto|always|never}; auto heeds NO_COLOR'
complete -c sstrace -l columns -x -a '(__sstrace_list time host netns netid from to held lasted process uid role local peer peer-process cause sent received rtt retransmits container pod unit)' -d 'the columns of text, joined by commas (else what a terminal has room for, and in files all):'
complete -c sstrace -l completions -x -a 'bash zsh fish' -d 'print the completions for {bash|zsh|fish}: source <(sstrace …)'
complete -c sstrace -s Z -l context -d 'display task SELinux security contexts'
complete -c sstrace -s z -l contexts -d 'display task and socket SELinux security contexts'
complete -c sstrace -l count -x -d 'stop after N events, or pictures of --watch; of --stats: the longest N lines'
complete -c sstrace -l dccp -d ''
complete -c sstrace -l debug -d 'of a bug in sstrace: show where, instead of leaving a report in a file'
complete -c sstrace -s D -l diag -r -F -d 'Dump raw information about TCP sockets to FILE'
complete -c sstrace -l doctor -d 'what works on this machine, what is missing, what would bring it'
complete -c sstrace -l duration -x -d 'stop after 5, 1.5s, 5m, 2h'
complete -c sstrace -s E -d 'continually display sockets as they are destroyed'
complete -c sstrace -l events -x -a '(__sstrace_list state retransmit reset drop error overflow all)' -d '{state|retransmit|reset|drop|error|overflow|all}[,WHAT]: what is told (default: state, of a recording all): transitions, segments sent again, resets, segments and datagrams dropped, errors that ICMP brings to UDP sockets, listeners without room'
complete -c sstrace -l explain -x -d 'one connection: all that the kernel, a server or a recording knows of it, in order'
complete -c sstrace -s e -l extended -d 'show detailed socket information'
complete -c sstrace -s f -l family -x -a 'inet inet6 unix link netlink vsock tipc xdp' -d 'display sockets of type FAMILY'
complete -c sstrace -s F -l filter -r -F -d 'read filter information from FILE'
complete -c sstrace -l fleet-schema -d 'the tables of --sink clickhouse, as SQL for clickhouse-client; =replicated: on every node of'
complete -c sstrace -l from -r -F -a 'netlink live' -d 'SOURCE := {netlink|live[:PATH]|FILE|DIR|clickhouse:URL}: the kernel (default), a serving sstrace, a recording, a directory of recordings of several hosts, a ClickHouse that holds the lines of many'
complete -c sstrace -l group -x -a '(__fish_complete_groups)' -d 'of --serve: who may ask besides root'
complete -c sstrace -s h -l help -d 'this message'
complete -c sstrace -l host -x -a '(__sstrace_list )' -d 'of the recordings in a directory, or a ClickHouse: those of these hosts, names or patterns (may be given again)'
complete -c sstrace -l html -r -F -d 'of --stats: the same as a page for browsers, too: over time, who with whom, how long'
complete -c sstrace -l inet-sockopt -d 'show various inet socket options'
complete -c sstrace -s i -l info -d 'show internal TCP information'
complete -c sstrace -l interval -x -d 'between pictures of --watch and rounds of --verify'
complete -c sstrace -s 4 -l ipv4 -d 'display only IP version 4 sockets'
complete -c sstrace -s 6 -l ipv6 -d 'display only IP version 6 sockets'
complete -c sstrace -l json -d 'NDJSON instead of text; a trace begins with its baseline, the sockets there are'
complete -c sstrace -l keep -x -d 'keep that many files'
complete -c sstrace -l keep-privileges -d 'a --serve that root started stays root, instead of becoming user sstrace or an unused one'
complete -c sstrace -s K -l kill -d 'forcibly close sockets, display what was closed'
complete -c sstrace -l life -d 'one line a connection, at its end: when, how long it lived, who, from or to whom, what it sent and received, round-trip time, what was sent again, cause; --json has all there is, as life lines'
complete -c sstrace -s l -l listening -d 'display listening sockets'
complete -c sstrace -s m -l memory -d 'show socket memory usage'
complete -c sstrace -l metrics -d 'serve counters over HTTP (default 127.0.0.1:9435)'
complete -c sstrace -l metrics-by -x -a '(__sstrace_list port unit container pod netns owner)' -d '{port|unit|container|pod|netns|owner}[,WHAT]: bytes and segments by these, too'
complete -c sstrace -s M -l mptcp -d 'display only MPTCP sockets'
complete -c sstrace -s N -l net -x -a '(ls /run/netns 2>/dev/null)' -d 'switch to the specified network namespace name'
complete -c sstrace -l netns -x -a '(__sstrace_list all (ls /run/netns 2>/dev/null))' -d 'look into these network namespaces (may be given again)'
complete -c sstrace -l no-baseline -d 'leave the baseline away, and tell events alone'
complete -c sstrace -s H -l no-header -d 'Suppress header line'
complete -c sstrace -l no-queues -d 'Suppress sending and receiving queue columns'
complete -c sstrace -s n -l numeric -d 'don\'t resolve service names'
complete -c sstrace -l on-full -x -a 'block drop' -d '{block|drop} when the reader is slower than the events: wait (default), or leave lines out'
complete -c sstrace -s O -l oneline -d 'socket\'s data printed on a single line'
complete -c sstrace -s o -l options -d 'show timer information'
complete -c sstrace -l output -r -F -d 'append there instead of writing on standard output; SIGHUP begins a new file of that name'
complete -c sstrace -s 0 -l packet -d 'display PACKET sockets'
complete -c sstrace -l parquet -r -F -d 'of --replay, of recordings or a ClickHouse: the lines as rows of a Parquet file, which whatever reads columns reads'
complete -c sstrace -l poll -x -d 'look at the kernel so often instead of tracing; takes no root'
complete -c sstrace -s p -l processes -d 'show process using socket'
complete -c sstrace -s A -l query -x -a '(__sstrace_list all inet tcp mptcp dccp udp raw sctp unix unix_dgram unix_stream unix_seqpacket packet packet_dgram packet_raw netlink vsock vsock_stream vsock_dgram tipc xdp)' -d ''
complete -c sstrace -s q -l quiet -d 'no summary, no advice, no progress: only what is wrong is said'
complete -c sstrace -s w -l raw -d 'display only RAW sockets'
complete -c sstrace -l ready-file -r -F -d 'make PATH once every hook is attached and the first table is in'
complete -c sstrace -l record -r -F -d 'write the whole stream, for --replay and --from, beside whatever else sstrace does'
complete -c sstrace -l replay -r -F -d 'run a recording again (may be given again, for the files of a rotation); with --watch, go back and forth in it'
complete -c sstrace -s r -l resolve -d 'resolve host names'
complete -c sstrace -l rotate -x -d 'start a new file at that size, or age (100M, 1h)'
complete -c sstrace -l schema -x -a 'native ecs otel' -d '{native|ecs|otel}: the names of the JSON keys'
complete -c sstrace -s S -l sctp -d 'display only SCTP sockets'
complete -c sstrace -l self-usage -d 'at the end: CPU and memory that sstrace itself took'
complete -c sstrace -l serve -F -d 'keep the live table, answer --snapshot and --watch --from live on a unix socket'
complete -c sstrace -l sink -x -a 'stdout journald syslog otlp clickhouse (__sstrace_files syslog)' -d 'SINK := {stdout|journald|syslog[:PATH]|otlp[:URL]|clickhouse:URL}: send events there (may be given again)'
complete -c sstrace -l snapshot -d 'the table, once, exactly as ss prints it: put it where you would type ss'
complete -c sstrace -l socket -x -a '(__sstrace_list all inet tcp mptcp dccp udp raw sctp unix unix_dgram unix_stream unix_seqpacket packet packet_dgram packet_raw netlink vsock vsock_stream vsock_dgram tipc xdp)' -d ''
complete -c sstrace -l speed -x -a '1 10 100 max' -d 'of a replay: 1 is life, 10 ten times, max as fast as it goes'
complete -c sstrace -l spool -r -F -d 'where lines wait while an engine is away, and how many bytes of them (default 1G)'
complete -c sstrace -l ss-version -x -d 'which ss to be identical to (default: the one installed, else the newest known)'
complete -c sstrace -l stats -d 'who connected to whom, how it ended, how long it took: of a recording, or from now on; --serve --stats counts, and --stats --from live asks for it'
complete -c sstrace -s s -l summary -d 'show socket usage summary'
complete -c sstrace -s t -l tcp -d 'display only TCP sockets'
complete -c sstrace -s T -l threads -d 'show thread using socket'
complete -c sstrace -l time -x -a 'clock iso utc delta relative' -d '{clock|iso|utc|delta|relative}: of events in text: time of day (on a terminal) or with the date (elsewhere), this machine\'s zone; UTC, --at and --between too; since the line before; since the first line'
complete -c sstrace -l tipc -d 'display only TIPC sockets'
complete -c sstrace -l tipcinfo -d 'show internal tipc socket information'
complete -c sstrace -l tos -d 'show tos and priority information'
complete -c sstrace -s u -l udp -d 'display only UDP sockets'
complete -c sstrace -s x -l unix -d 'display only Unix domain sockets'
complete -c sstrace -l verify -d 'compare the live table with the kernel\'s again and again, report drift'
complete -c sstrace -s V -s v -l version -d 'output version information'
complete -c sstrace -l vsock -d 'display only vsock sockets'
complete -c sstrace -l watch -d 'the table, full screen, alive'
complete -c sstrace -l xdp -d 'display only XDP sockets'
complete -c sstrace -n '__sstrace_behind state exclude' -a 'established syn-sent syn-recv fin-wait-1 fin-wait-2 time-wait closed close-wait last-ack listening closing all connected synchronized bucket big'
complete -c sstrace -n '__sstrace_behind from to' -a '(__sstrace_list established syn-sent syn-recv fin-wait-1 fin-wait-2 time-wait closed close-wait last-ack listening closing all connected synchronized bucket big)'
complete -c sstrace -n '__sstrace_behind dev' -a '(ls /sys/class/net)'
complete -c sstrace -n '__sstrace_behind role' -a 'client server'
complete -c sstrace -n '__sstrace_behind cause' -a 'fin-by-us fin-by-peer closed abandoned reset-received reset-sent completed linger disconnected refused unreachable connect-failed timeout-connect timeout-synack timeout-retransmit timeout-keepalive timeout-probe timeout-fin-wait-2 expired reused killed listener-closed overflow out-of-memory netns-gone subflow unknown'
complete -c sstrace -n 'not __sstrace_behind state exclude from to src dst sport dport dev fwmark cgroup port host pid comm user container pod unit role cause netns held lifetime rtt sent received retransmits; and not __sstrace_second' -a 'state exclude from to ended src dst sport dport dev fwmark cgroup port host pid comm user container pod unit role cause netns held lifetime rtt sent received retransmits autobound and or not'
