# Completion of doit and ollamake for fish, by `doit completion fish`. Into ~/.config/fish/config.fish: doit completion fish | source
function __ollamake_complete
    set -l typed (commandline -opc) (commandline -ct)
    set -l program (string replace -r '^~/' "$HOME/" -- $typed[1])
    set -l python @PYTHON@
    string match -q '*/*' -- $program; or set program (command -s -- $program)
    test -r "$program"; and read -l first <$program
    set -l found (string match -r '^#!(\S*python\S*)' -- "$first")
    test -n "$found[2]" -a -x "$found[2]"; and set python $found[2]
    $python -c @PROGRAM@ fish $typed 2>/dev/null
end
complete -c doit -e
complete -c doit -f -k -a '(__ollamake_complete)'
complete -c ollamake -f -k -a '(__ollamake_complete)'
