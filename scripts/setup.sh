# What scripts/sstrace and scripts/test install on first use. Sourced by both, never run by itself; it talks on stderr only.
#
# In:  SSTRACE_ROOT  the checkout
#      spare         directory for a venv where the checkout cannot be written (scripts/sstrace explains)
# Out: SSTRACE_VENV  a venv that has sstrace in it
#
# shellcheck disable=SC2154 # spare and fresh are the caller's
#
# The venv is made from the system's own python, because bcc's bindings are a package of the distribution and built for it.

setup_python=/usr/bin/python3

say() { printf 'sstrace: %s\n' "$*" >&2; }

is_root() { [ "$(id -u)" = 0 ]; }

has_bcc() { "$setup_python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("bcc") is None)' 2>/dev/null; }

has_venv() { "$setup_python" -c 'import ensurepip, venv' 2>/dev/null; }

new_enough() { "$setup_python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# What decides whether a venv is current: the declared dependencies and their hashes, this recipe, and what is compiled
# into it.
recipe() {
    cat "$SSTRACE_ROOT/pyproject.toml" "$SSTRACE_ROOT"/requirements/*.txt "$SSTRACE_ROOT/scripts/setup.sh" \
        "$SSTRACE_ROOT"/native/*.* "$SSTRACE_ROOT/bpf/event.h" | cksum
}

# quietly COMMAND…: its output is shown only if it fails. No stdin: that belongs to sstrace (-F -). No lock (fd 9) either:
# a package's service could inherit it and hold it for ever.
quietly() {
    setup_log=$(mktemp)
    if "$@" </dev/null >"$setup_log" 2>&1 9>&-; then
        rm -f "$setup_log"
    else
        tail -n 6 "$setup_log" >&2
        rm -f "$setup_log"
        return 1
    fi
}

# Another apt may be running: wait for it. No network: say so within seconds, not minutes.
apt_options="-o DPkg::Lock::Timeout=300 -o Acquire::Retries=0 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20"

# apt_install PACKAGE…: Debian and its children. The package lists are fetched only when those at hand do not serve.
apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    say "installing $* with apt-get"
    # shellcheck disable=SC2086 # a list of words
    set -- apt-get -y -q --no-install-recommends $apt_options install "$@"
    "$@" </dev/null >/dev/null 2>&1 9>&- && return
    # shellcheck disable=SC2086
    quietly apt-get -q $apt_options update || return 1
    quietly "$@"
}

# How this distribution installs bcc's python bindings, as a command to type.
bcc_command() {
    distribution=$(
        ID='' ID_LIKE=''
        [ ! -r /etc/os-release ] || . /etc/os-release
        echo "$ID $ID_LIKE"
    )
    for name in $distribution; do
        case $name in
            debian | ubuntu) echo "apt-get install python3-bpfcc" ;;
            fedora | rhel | centos | amzn) echo "dnf install python3-bcc" ;;
            arch | archarm) echo "pacman -S python-bcc" ;;
            alpine) echo "apk add py3-bcc" ;;
            opensuse* | suse | sles) echo "zypper install python3-bcc" ;;
            *) continue ;;
        esac
        return
    done
    echo "the package that brings bcc's Python 3 bindings (python3-bcc, python-bcc or python3-bpfcc)"
}

# The system's part: python with venv, bcc, ss. Only python and venv are indispensable.
setup_system() {
    missing=
    has_venv || missing="$missing python3 python3-venv"
    has_bcc || missing="$missing python3-bpfcc"
    command -v ss >/dev/null || missing="$missing iproute2"
    if [ -n "$missing" ] && is_root && command -v apt-get >/dev/null; then
        # shellcheck disable=SC2086 # a list of words
        apt_install $missing || say "apt-get could not install:$missing"
    fi
    if ! has_venv; then
        if ! is_root && command -v apt-get >/dev/null; then
            say "run this once as root to set up, or type: sudo apt-get install$missing"
            exit 3
        fi
        say "needs Python 3.11 or newer with its venv module as $setup_python: install that and start again"
        exit 4
    fi
    if ! new_enough; then
        say "needs Python 3.11 or newer as $setup_python; this one is $("$setup_python" -V 2>&1)"
        exit 4
    fi
}

# The venv at hand can be used: pip runs, it sees the system's packages, and neither python nor the checkout moved.
venv_usable() {
    [ -x "$SSTRACE_VENV/bin/python3" ] &&
        grep -q '^include-system-site-packages = true' "$SSTRACE_VENV/pyvenv.cfg" &&
        grep -qF "$SSTRACE_VENV/bin/python3" "$SSTRACE_VENV/bin/pip" &&
        "$SSTRACE_VENV/bin/python3" -c 'import pip, sys; sys.exit(not pip.__file__.startswith(sys.prefix))'
} 2>/dev/null

# Compiled modules halve the time of a short snapshot. pip compiles what it copies, which an editable package is not; and
# compileall writes where PYTHONDONTWRITEBYTECODE says that an import must not. For speed only: it may fail.
compile_modules() {
    (
        [ "$SSTRACE_VENV" != "$spare/.venv" ] || export PYTHONPYCACHEPREFIX="$spare/pycache"
        msgspec=$("$SSTRACE_VENV/bin/python3" -c 'import msgspec; print(*msgspec.__path__)')
        "$SSTRACE_VENV/bin/python3" -m compileall -q "$SSTRACE_ROOT/sstrace" "$msgspec"
    ) </dev/null >/dev/null 2>&1 9>&- || :
}

# pip_install WORD…: into the venv, without asking.
pip_install() {
    PIP_USER=0 quietly "$SSTRACE_VENV/bin/python3" -m pip install --quiet --disable-pip-version-check --no-input "$@"
}

# setup_venv LOCK STAMP: LOCK is sstrace or test, a file of requirements/: whatever comes from elsewhere has one of the
# hashes that stand there, also what builds sstrace.
setup_venv() {
    if ! venv_usable; then
        say "making a Python environment in $SSTRACE_VENV"
        if ! quietly "$setup_python" -m venv --clear --system-site-packages "$SSTRACE_VENV"; then
            say "could not make a Python environment in $SSTRACE_VENV"
            exit 1
        fi
    fi
    say "installing the Python packages of requirements/$1.txt"
    if ! pip_install --require-hashes --requirement "$SSTRACE_ROOT/requirements/$1.txt"; then
        say "pip could not install what requirements/$1.txt lists: it needs PyPI, or a mirror that pip is configured for"
        exit 1
    fi
    if ! pip_install --no-deps --no-build-isolation --editable "$SSTRACE_ROOT"; then
        say "pip could not install sstrace from $SSTRACE_ROOT"
        exit 1
    fi
    compile_modules
    # Last, and in one step: an interrupted set-up leaves no stamp.
    bcc=no
    ! has_bcc || bcc=yes
    {
        echo "$SSTRACE_ROOT"
        readlink -f "$setup_python"
        echo "$bcc"
        recipe
    } >"$SSTRACE_VENV/$2.new"
    mv "$SSTRACE_VENV/$2.new" "$SSTRACE_VENV/$2"
}

# choose_venv: the checkout's own, else the spare one.
choose_venv() {
    SSTRACE_VENV=$SSTRACE_ROOT/.venv
    if [ ! -w "$SSTRACE_ROOT" ] || { [ -e "$SSTRACE_VENV" ] && [ ! -w "$SSTRACE_VENV" ]; }; then
        SSTRACE_VENV=$spare/.venv
        if ! mkdir -p "$spare" 2>/dev/null; then
            say "can write neither $SSTRACE_ROOT nor $spare: run this once as root, or set XDG_CACHE_HOME"
            exit 3
        fi
    fi
}

# same_recipe VENV STAMP: files are newer than the stamp, but say the same (a fresh checkout, a touched file).
same_recipe() {
    [ -r "$1/$2" ] && [ "$(sed -n 4p "$1/$2")" = "$(recipe)" ] &&
        [ "$(sed -n 1p "$1/$2")" = "$SSTRACE_ROOT" ] && [ /usr/bin/python3 -ef "$(sed -n 2p "$1/$2")" ]
}

# setup_sstrace QUIET: everything scripts/sstrace needs. One process at a time; those who waited find the work done.
setup_sstrace() {
    umask 022
    for SSTRACE_VENV in "$SSTRACE_ROOT/.venv" "$spare/.venv"; do
        if [ -x "$SSTRACE_VENV/bin/sstrace" ] && same_recipe "$SSTRACE_VENV" sstrace.stamp &&
            { [ "$(sed -n 3p "$SSTRACE_VENV/sstrace.stamp")" = yes ] || [ "$1" = yes ] || ! is_root; }; then
            touch -c "$SSTRACE_VENV/sstrace.stamp" 2>/dev/null || :
            return
        fi
    done
    choose_venv
    exec 9>"$SSTRACE_VENV.lock"
    ! command -v flock >/dev/null || flock 9
    if ! fresh "$SSTRACE_VENV" || [ "$(sed -n 3p "$SSTRACE_VENV/sstrace.stamp")" = no ]; then
        setup_system
        if ! has_bcc && [ "$1" = no ]; then
            say "bcc is missing, so the kernel cannot be traced (--snapshot works); as root, type: $(bcc_command)"
        fi
        if fresh "$SSTRACE_VENV" && ! has_bcc; then
            :
        else
            setup_venv sstrace sstrace.stamp
        fi
    fi
    exec 9>&-
}
