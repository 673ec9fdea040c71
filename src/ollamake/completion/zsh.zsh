#compdef doit ollamake
# Completion of doit and ollamake for zsh, by `doit completion zsh`. Into ~/.zshrc: eval "$(doit completion zsh)"
_ollamake_complete() {
    local program=${commands[${(Q)words[1]}]:-${(Q)~words[1]}} first python=@PYTHON@ line
    local -a typed plain plain_said more more_said
    IFS= read -r first 2>/dev/null <"$program"
    if [[ $first == '#!'*python* && -x ${${first#\#!}%% *} ]]; then python=${${first#\#!}%% *}; fi
    typed=("${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}")
    for line in "${(@f)$("$python" -c @PROGRAM@ zsh "${typed[@]}" 2>/dev/null)}"; do
        [[ -n $line ]] || continue
        if [[ ${line%%$'\t'*} == *[:=/,] ]]; then
            more+=("${line%%$'\t'*}") more_said+=("${line%%$'\t'*}  ${line#*$'\t'}")
        else
            plain+=("${line%%$'\t'*}") plain_said+=("${line%%$'\t'*}  ${line#*$'\t'}")
        fi
    done
    compadd -l -d plain_said -a -- plain
    compadd -l -S '' -d more_said -a -- more
    (( ${#plain} + ${#more} ))
}
if (( ! $+functions[compdef] )); then autoload -Uz compinit && compinit; fi
compdef _ollamake_complete doit ollamake
