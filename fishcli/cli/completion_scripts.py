"""The completion scripts of the shells.

The fish shell has the name of our command, and a shell that is started by Tab waits for the terminal for ever. So a
script starts only the program that the command line would start, by its path, after a look into it: ours is a script
that names fishcli.
"""

VARIABLE = "_FISH_COMPLETE"  # in which the scripts call this program
LOOKED_AT = 4096  # bytes at the start of a program

_BASH = """\
_fishcli_program() {
    local program
    program=$(type -P -- "${1/#\\~\\//$HOME/}") && [[ -f $program ]] &&
        head -c 4096 -- "$program" 2>/dev/null | grep -aq fishcli && printf '%s\\n' "$program"
}

_fishcli_completion() {
    local program IFS=$'\\n'
    COMPREPLY=()
    program=$(_fishcli_program "$1") || return 0
    COMPREPLY=( $(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _FISH_COMPLETE=complete_bash \\
        "$program" </dev/null 2>/dev/null) )
    return 0
}

complete -o default -F _fishcli_completion fish fishcli
"""

# On the first Tab, zsh runs an autoloaded file as the completion function.
_ZSH = """\
#compdef fish fishcli

_fishcli_completion() {
  local program=${~words[1]}
  program=$(whence -p -- $program)
  if [[ -f $program ]] && head -c 4096 -- $program 2>/dev/null | grep -aq fishcli; then
    eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _FISH_COMPLETE=complete_zsh \\
      $program </dev/null 2>/dev/null)
  else
    _default
  fi
}

compdef _fishcli_completion fish fishcli
[[ $zsh_eval_context[-1] == loadautofunc ]] && _fishcli_completion "$@"
"""

# Where `fish` is the shell, it keeps its own completions: those of its data folder, or from 4.1 on of its program.
_FISH = """\
function __fishcli_program
    set --local program (command --search -- (string replace --regex '^~/' $HOME/ -- $argv[1]))
    or return 1
    head -c 4096 -- $program 2>/dev/null | grep -aq fishcli
    and echo $program
end

function __fishcli_complete
    set --local program (__fishcli_program (commandline -opc)[1])
    or return 1
    env _FISH_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] \\
        _TYPER_COMPLETE_ARGS=(commandline -cp | string collect) $program </dev/null 2>/dev/null
end

function __fishcli_load --on-variable PATH
    complete --erase --command fish
    if not __fishcli_program fish >/dev/null
        if test -f "$__fish_data_dir/completions/fish.fish"
            source $__fish_data_dir/completions/fish.fish
        else
            status get-file completions/fish.fish 2>/dev/null | source
        end
    end
    for name in fish fishcli
        complete --command $name --condition '__fishcli_complete is-args' --no-files \\
            --arguments '(__fishcli_complete get-args)'
    end
end

complete --erase --command fishcli
__fishcli_load
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
INSTRUCTIONS = [f"complete_{shell}" for shell in SCRIPTS]  # the values of VARIABLE
