# Completion of doit and ollamake for bash, by `doit completion bash`. Into ~/.bashrc: eval "$(doit completion bash)"
_ollamake_complete() {
    local program first python word line=${COMP_LINE:0:$COMP_POINT}
    program=$(type -P -- "${COMP_WORDS[0]/#\~\//$HOME/}") || return
    IFS= read -r first <"$program"
    python=@PYTHON@
    case $first in '#!'*python*) first=${first#'#!'} && [ -x "${first%% *}" ] && python=${first%% *} ;; esac
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <("$python" -c @PROGRAM@ bash "$line" "$COMP_WORDBREAKS" 2>/dev/null)
    case ${COMPREPLY[0]-} in *[:=/,]) compopt -o nospace 2>/dev/null ;; esac
}
complete -F _ollamake_complete doit ollamake
