"""Completions for bash, zsh and fish, from the tables of options (catalog) and of words (words).

Every argument is of one of these kinds: words, perhaps joined by commas; files; words or files; a word with a file
behind its colon; network namespaces; groups; two, or one that nobody can guess. ``tests/unit/test_completions.py``
asks the real shells for each.
"""

import re

from sstrace.dialect import NEWEST, dialect
from sstrace.query.catalog import OWN, SS, Entry
from sstrace.query.filter import EXAMPLES
from sstrace.query.usage import ss_usage
from sstrace.query.words import WORDS

__all__ = ["SHELLS"]

FILTER = " ".join(("state exclude from to ended", *EXAMPLES, "autobound and or not"))
STATES = (
    "established syn-sent syn-recv fin-wait-1 fin-wait-2 time-wait closed close-wait last-ack listening closing all "
    "connected synchronized bucket big"
)
CHOICES = {word.name: " ".join(word.choices) for word in WORDS.values() if word.choices}
"""Words of a filter, and what may stand behind each."""
_NETNS = "/run/netns"
FREE = [name for name in EXAMPLES if name != "dev" and name not in CHOICES]
"""Those behind which stands what nobody can guess."""
ENTRIES = sorted((*SS, *OWN), key=lambda entry: entry.name)
LETTERS = [(letter, entry) for entry in (*SS, *OWN) if not entry.since for letter in entry.letters]


def words(entry: Entry) -> str:
    """What may stand as it is."""
    return " ".join(value for value in entry.values if value.islower() or value.isdecimal())


def heads(entry: Entry) -> list[str]:
    """Words behind whose colon a file stands."""
    return [value.partition(":")[0] for value in entry.values if value.endswith(":FILE")]


def spellings(entry: Entry) -> list[str]:
    """All that means the option."""
    letters = [f"-{letter}" for letter, of in LETTERS if of is entry]
    return letters if _is_hidden(entry) else [*letters, f"--{entry.name}"]


def _is_hidden(entry: Entry) -> bool:
    """Whether its long name is another's, but for --snapshot: --events of ss is -E."""
    return not entry.section and any(own.name == entry.name for own in OWN)


def describe() -> dict[str, str]:
    """Long option of ss's → what it does, in the words of ss's usage."""
    found: dict[str, str] = {}
    for line in ss_usage(dialect(NEWEST)).splitlines():
        match = re.match(r"\s+(?:-\w, )?--([\w-]+)(?:=\S+[^,])?\s+(\S.*)", line)
        if match:
            found.setdefault(match[1], match[2])
    return found


def _said(entry: Entry, of_ss: dict[str, str]) -> str:
    """The first line that says what an option does."""
    return entry.text.partition("\n")[0] if entry.section else of_ss.get(entry.name, "")


# ---------------------------------------------------------------------------------------------------------------- bash


def bash() -> str:
    """Works with the package bash-completion and without it, wherever bash breaks words."""
    takers = [entry for entry in ENTRIES if entry.argument]
    cases = "\n".join(f"    {' | '.join(spellings(entry))}) {_bash_does(entry)} ;;" for entry in takers)
    optional = "|".join(f"--{entry.name}" for entry in takers if entry.option.optional)
    choices = "\n".join(f'    {name}) _sstrace_words "{found}" ;;' for name, found in CHOICES.items())
    longs = " ".join(f"--{entry.name}" for entry in ENTRIES if not _is_hidden(entry))
    letters = " ".join(f"-{letter}" for letter, _ in LETTERS)
    return f"""\
# bash completion for sstrace. As sstrace --completions prints it.

# What may follow, in terms of $value, the word so far.
_sstrace_words() {{ # WORDS [,]: joined by commas
    local before=
    [[ $2 && $value == *,* ]] && before=${{value%,*}},
    mapfile -t COMPREPLY < <(compgen -P "$before" -W "$1" -- "${{value#"$before"}}")
}}
_sstrace_files() {{ # [WORD:]: behind which they stand
    [[ $value == "$1"* ]] || return
    compopt -o filenames 2>/dev/null
    local path=${{value#"$1"}}
    mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen -P "$1" -f -- "${{path//\\\\/}}")
}}
_sstrace_names() {{ # DIRECTORY that has them. Quoted: whoever gave a name must not have typed a command.
    local path
    for path in "$1"/*; do
        [[ -e $path || -L $path ]] || continue
        printf -v path %q "${{path##*/}}"
        [[ $path != "$value"* ]] || COMPREPLY+=("$path")
    done
}}

_sstrace() {{
    # bash breaks words at : and =, unless it has been told otherwise. $kept: the part that it will not replace.
    local at=$COMP_CWORD last=${{COMP_WORDS[COMP_CWORD]}} value= kept= glued= equals= option
    if [[ $last != = ]]; then
        value=$last
        ((at--))
        while ((at > 0)) && [[ ${{COMP_WORDS[at]}} != = && ($value == :* || ${{COMP_WORDS[at]}} == :) ]]; do
            value=${{COMP_WORDS[at]}}$value
            ((at--))
        done
        kept=$value
        [[ $last == : ]] || kept=${{value%"$last"}}
    fi
    option=${{COMP_WORDS[at]}}
    if [[ $value == --*=* ]]; then
        equals=1 option=${{value%%=*}} glued=${{value%%=*}}= value=${{value#*=}}
    elif [[ $option == = ]]; then
        equals=1 option=${{COMP_WORDS[at - 1]}}
    fi
    # -tnA is -A by now; what need not have an argument has it behind =; the second argument is its first one's kind.
    [[ $option == -[!-]* ]] && option=-${{option: -1}}
    [[ ! $equals && $option == @({optional}) ]] && option=
    ((at > 1)) && [[ ${{COMP_WORDS[at - 1]}} == --between ]] && option=--between

    COMPREPLY=()
    case $option in
{cases}
    state | exclude) _sstrace_words "{STATES}" ;;
    from | to) _sstrace_words "{STATES}" , ;;
    dev) _sstrace_names /sys/class/net ;;
{choices}
    {" | ".join(FREE)} | [=!\\<\\>]*) ;;
    *)
        case $value in
        --*) _sstrace_words "{longs}" ;;
        -*) _sstrace_words "{letters}" ;;
        *) _sstrace_words "{FILTER}" ;;
        esac
        ;;
    esac
    COMPREPLY=("${{COMPREPLY[@]/#/$glued}}")
    COMPREPLY=("${{COMPREPLY[@]#"$kept"}}")
}}
complete -F _sstrace sstrace
"""


def _bash_does(entry: Entry) -> str:
    named = f" $(ls {_NETNS} 2>/dev/null)" if entry.commas and "NETNS" in entry.values else ""
    does = [f'_sstrace_words "{words(entry)}{named}"' + " ," * entry.commas] if words(entry) else []
    does += [f"_sstrace_files {head}:" for head in heads(entry)]
    does += ["_sstrace_files"] if "FILE" in entry.values else []
    does += [f"_sstrace_names {_NETNS}"] if "NETNS" in entry.values and not entry.commas else []
    does += ['mapfile -t COMPREPLY < <(compgen -g -- "$value")'] if "GROUP" in entry.values else []
    return "; ".join(does or [":"])


# ----------------------------------------------------------------------------------------------------------------- zsh


def zsh() -> str:
    """For a directory of fpath; one specification for all spellings of an option."""
    about = describe()
    lines = []
    for entry in ENTRIES:
        text = re.sub(r"([\[\]:\\])", r"\\\1", _said(entry, about)).replace("'", "")
        count = len(entry.argument.split())
        value = f":{entry.name}:{_zsh_does(entry)}" * count
        if entry.option.optional:
            lines.append(f"'--{entry.name}=-[{text}]:{value}'")
            continue
        letters = [name for name in spellings(entry) if name[1] != "-"]
        every = " ".join(spellings(entry))
        first = "(*)" if entry.many else f"({every})"
        for name in spellings(entry):
            mark = "" if count != 1 else "=" if name[1] == "-" else "+"
            star = "*" if entry.many else ""
            exclusive = "" if entry.many or not letters else first
            lines.append(f"'{exclusive}{star}{name}{mark}[{text}]{value}'")
    body = " \\\n".join(f"    {line}" for line in lines)
    choices = "\n".join(f"    {name}) compadd -- {found} ;;" for name, found in CHOICES.items())
    return f"""\
#compdef sstrace
# zsh completion for sstrace. As sstrace --completions prints it.

_sstrace_filter() {{
  local before=${{words[CURRENT-1]}}
  [[ $before == (=|!=) ]] && before=${{words[CURRENT-2]}}
  case $before in
    state|exclude) compadd -- {STATES} ;;
    from|to) _sequence compadd - {STATES} ;;
    dev) _files -W /sys/class/net ;;
{choices}
    {"|".join(FREE)}|[=\\!\\<\\>]*) ;;
    *) compadd -- {FILTER} ;;
  esac
}}

# Words, or files behind the colon of some of them: HEADS WORDS [files]
_sstrace_behind() {{
  if compset -P "(${{1}}):"; then
    _files
  else
    compadd -- ${{=2}}
    [[ -n $3 ]] && _files
  fi
}}

_arguments -s -S \\
{body} \\
    '*:filter:_sstrace_filter'
"""


def _zsh_does(entry: Entry) -> str:
    if heads(entry):
        files = " files" if "FILE" in entry.values else ""
        return f'{{_sstrace_behind "{"|".join(heads(entry))}" "{words(entry)}"{files}}}'
    if entry.commas:
        named = f' ${{(f)"$(ls {_NETNS} 2>/dev/null)"}}' if "NETNS" in entry.values else ""
        return f"{{_sequence compadd - {words(entry)}{named}}}"
    if words(entry):
        return f"({words(entry)})"
    return _ZSH_KINDS.get(entry.values, " ")


_ZSH_KINDS: dict[tuple[str, ...], str] = {
    ("FILE",): "_files",
    ("NETNS",): f"_files -W {_NETNS}",
    ("GROUP",): "_groups",
}


# ---------------------------------------------------------------------------------------------------------------- fish


def fish() -> str:
    """One line for all spellings of an option."""
    about = describe()
    lines = [_FISH_HEAD]
    taken = " ".join(("state", "exclude", "from", "to", *EXAMPLES))
    for entry in ENTRIES:
        text = _said(entry, about).replace("\\", "\\\\").replace("'", "\\'")
        names = " ".join(f"-s {name[1]}" if name[1] != "-" else f"-l {name[2:]}" for name in spellings(entry))
        lines.append(f"complete -c sstrace {names}{_fish_takes(entry)}{_fish_does(entry)} -d '{text}'")
    lines += [
        f"complete -c sstrace -n '__sstrace_behind state exclude' -a '{STATES}'",
        f"complete -c sstrace -n '__sstrace_behind from to' -a '(__sstrace_list {STATES})'",
        "complete -c sstrace -n '__sstrace_behind dev' -a '(ls /sys/class/net)'",
        *(f"complete -c sstrace -n '__sstrace_behind {name}' -a '{found}'" for name, found in CHOICES.items()),
        f"complete -c sstrace -n 'not __sstrace_behind {taken}; and not __sstrace_second' -a '{FILTER}'",
    ]
    return "\n".join(lines) + "\n"


_FISH_HEAD = """\
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
    printf '%s\\n' (string replace -r -- '[^,]*$' '' $token)$argv
end

function __sstrace_files # behind this word and a colon
    set -l token (string split -m 1 : (string replace -r -- '^--[a-z-]+=' '' (commandline -t)))
    test "$token[1]" = $argv; and set -q token[2]; or return
    set -l files $token[2]* # empty where there are none
    test -n "$files"; and printf "$argv:%s\\n" $files
end

complete -c sstrace -f"""


def _fish_takes(entry: Entry) -> str:
    if not entry.argument or entry.option.optional:
        return " -F" if "FILE" in entry.values else ""  # an argument that may be left out stands behind = alone
    return " -r -F" if "FILE" in entry.values else " -x"


def _fish_does(entry: Entry) -> str:
    offers = ""
    if entry.commas:
        named = f" (ls {_NETNS} 2>/dev/null)" if "NETNS" in entry.values else ""
        offers = f"(__sstrace_list {words(entry)}{named})"
    elif "NETNS" in entry.values:
        offers = f"(ls {_NETNS} 2>/dev/null)"
    elif "GROUP" in entry.values:
        offers = "(__fish_complete_groups)"
    elif words(entry):
        offers = words(entry)
    if "FILE" not in entry.values:
        offers += "".join(f" (__sstrace_files {head})" for head in heads(entry))
    return f" -a '{offers}'" if offers else ""


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
"""Each gives the script for its shell."""
