function __fishcli_program
    set --local program (command --search -- (string replace --regex '^~/' $HOME/ -- $argv[1]))
    or return 1
    head -c 4096 -- $program 2>/dev/null | grep -aq fishcli
    and echo $program
end

function __fishcli_complete
    set --local program (__fishcli_program (commandline -opc)[1])
    or return 1
    env _FISH_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] \
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
        complete --command $name --condition '__fishcli_complete is-args' --no-files \
            --arguments '(__fishcli_complete get-args)'
    end
end

complete --erase --command fishcli
__fishcli_load
