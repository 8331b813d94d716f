_fishcli_program() {
    local program
    program=$(type -P -- "${1/#\~\//$HOME/}") && [[ -f $program ]] &&
        head -c 4096 -- "$program" 2>/dev/null | grep -aq fishcli && printf '%s\n' "$program"
}

_fishcli_completion() {
    local program IFS=$'\n'
    COMPREPLY=()
    program=$(_fishcli_program "$1") || return 0
    COMPREPLY=( $(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _FISH_COMPLETE=complete_bash \
        "$program" </dev/null 2>/dev/null) )
    return 0
}

complete -o default -F _fishcli_completion fish fishcli
