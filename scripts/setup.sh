#!/usr/bin/env bash
# Sets fovigraph up in a virtual environment: PyTorch, torch-scatter and torch-cluster, the package.
#
#     [PYTHON=python3.12] [WHEELS=URL] scripts/setup.sh [--check] .venv
#
# With --check, it only looks whether what is there is of the interpreter that PYTHON names.
# What is there already is left alone, so it may be run again at any time, also after a failure.
# pip keeps its own configuration (index, mirrors, prebuilt wheels); its output is in .setup/*.log.
set -euo pipefail
cd "$(dirname "$0")/.."

only_check=
if [ "${1:-}" = --check ]; then
    only_check=1
    shift
fi
venv=${1:-.venv}
python=$venv/bin/python
wanted=${PYTHON:-python3}
pins=$(grep -E '^torch-(scatter|cluster)==' constraints.txt)

say() { printf 'fovigraph: %s\n' "$*"; }
stop() { say "$*" >&2; exit 1; }

pip() { "$python" -m pip --disable-pip-version-check --no-input "$@"; }

# The interpreter's version, as 3.12; nothing if it does not run.
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

# What tells interpreters apart: "3.12 of /usr", also of one in a virtual environment.
identity_of() {
    "$1" -c 'import os, sys
print("%d.%d of %s" % (*sys.version_info[:2], os.path.realpath(sys.base_prefix)))' 2>/dev/null || true
}

# If an interpreter is named, the environment that is there has to be of it.
check_interpreter() {
    local there named
    there=$(identity_of "$python")
    [ -n "${PYTHON:-}" ] && [ -n "$there" ] || return 0
    named=$(identity_of "$wanted")
    [ -n "$named" ] || stop "'$wanted' does not run: leave PYTHON out to go on with $venv (Python $there)"
    [ "$named" = "$there" ] ||
        stop "$venv has Python $there, and PYTHON=$wanted is Python $named: 'make clean' removes it," \
            "then try again; or leave PYTHON out"
}

# install NAME ARGUMENTS…: pip install under the constraints; on failure, one line on what to do.
install() {
    local name=$1 log=.setup/${1// /-}.log
    shift
    pip install -c constraints.txt "$@" >"$log" 2>&1 || explain "$name" "$log"
}

explain() {
    local name=$1 log=$2
    if grep -qE 'Retrying \(|ConnectionError|Name or service not known|Network is unreachable' "$log"; then
        stop "$name could not be downloaded: check the network and pip's index (details: $log)"
    elif grep -q 'No space left on device' "$log"; then
        stop "$name could not be installed: the disk is full (details: $log)"
    elif grep -qE 'No matching distribution|ResolutionImpossible' "$log"; then
        stop "pip's index has no fitting $name for Python $(version_of "$python") here: check pip's" \
            "configuration, or 'make clean' and try another PYTHON=python3.X (details: $log)"
    fi
    stop "$name could not be installed (details: $log)"
}

make_environment() {
    local version
    version=$(version_of "$wanted")
    [ -n "$version" ] ||
        stop "'$wanted' does not run: install Python 3.10 or newer, or name one with PYTHON=python3.X"
    case $version in
        [0-2].* | 3.[0-9]) stop "'$wanted' is Python $version, 3.10 or newer is needed:" \
            "name one with PYTHON=python3.X" ;;
    esac
    say "Python $version: making $venv (logs: .setup/)"
    "$wanted" -m venv --clear "$venv" >.setup/venv.log 2>&1 ||
        stop "'$wanted' cannot make a virtual environment: install its venv module" \
            "(Debian, Ubuntu: apt install python3-venv) (details: .setup/venv.log)"
}

check_compiler() {
    local include
    cxx=${CXX:-$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CXX") or "c++")')}
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    command -v "${cxx%% *}" >/dev/null ||
        stop "no C++ compiler ('$cxx'): install one (Debian, Ubuntu: apt install g++; macOS:" \
            "xcode-select --install), or name a page of prebuilt wheels with WHEELS=URL"
    # shellcheck disable=SC2086  # CXX may carry arguments
    echo '#include <concepts>' | $cxx -std=c++20 -fsyntax-only -x c++ - 2>.setup/compiler.log ||
        stop "'$cxx' does not compile C++20, which PyTorch needs: install a newer one" \
            "(GCC 11 or newer) and name it with CXX=… (details: .setup/compiler.log)"
    [ -e "$include/Python.h" ] ||
        stop "Python's C headers are missing: install them (Debian, Ubuntu: apt install python3-dev)"
}

# How many files each of the two compiles at once: all cores, if there are 3 GB of memory for each.
files_at_once() {
    local cores gigabytes=
    cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
    [ ! -r /proc/meminfo ] || gigabytes=$(awk '/^MemAvailable/ {print int($2 / 1e6)}' /proc/meminfo)
    [ -z "$gigabytes" ] || [ "$cores" -le $((gigabytes / 3)) ] || cores=$((gigabytes / 3))
    echo "${MAX_JOBS:-$((cores > 0 ? cores : 1))}"
}

# compile FLAGS: builds both, side by side, into $kept. Without pip's cache, which would hand out the
# same wheels for another PyTorch, where they crash. (xargs, as Ctrl-C then ends the compilers too.)
compile() {
    rm -f .setup/torch-*==*.log
    CXXFLAGS=$1 DIST_EXTRA_CONFIG=$PWD/.setup/build.cfg \
        xargs -P 2 -I {} "$python" -m pip wheel --disable-pip-version-check --no-cache-dir --no-deps \
        --no-build-isolation -c constraints.txt -w "$kept" --log ".setup/{}.log" {} \
        <<<"$pins" >/dev/null 2>&1
}

# precompile HEADER FLAGS: HEADER.gch, with the flags that both packages' setup.py use (GCC only).
precompile() {
    local paths='import sysconfig as s, torch.utils.cpp_extension as t
print(*t.include_paths(), s.get_path("include"), sep=":")'
    # shellcheck disable=SC2086
    $cxx --version | grep -q 'Free Software Foundation' &&
        CPATH=$("$python" -c "$paths") $cxx $2 -fPIC -O2 -fopenmp -std=c++20 -DWITH_PYTHON \
            -DAT_PARALLEL_OPENMP -DTORCH_API_INCLUDE_EXTENSION_H -x c++-header "$1" -o "$1.gch"
}

build_extensions() {
    local fast files flags headers=$PWD/.setup/include
    check_compiler
    # Their CPU half is enough: graphs are made on the CPU. FORCE_ONLY_CPU=0 adds the CUDA half where
    # there is a toolkit, one file after the other, as PyTorch's way to call nvcc is not for threads.
    export FORCE_ONLY_CPU=${FORCE_ONLY_CPU:-1}
    files=1
    [ "$FORCE_ONLY_CPU" != 1 ] || files=$(files_at_once)
    say "compiling torch-scatter and torch-cluster, once: 2 to 4 minutes on 2 cores, as their 23 files" \
        "all need PyTorch's large headers (WHEELS=URL takes prebuilt ones instead)"
    # Both consist of several small libraries, which setuptools would otherwise compile one by one.
    printf '[build_ext]\nparallel = %s\n' "$files" >.setup/build.cfg
    # Python's own flags, but no debug symbols: 40 % less to compile.
    flags="$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CFLAGS") or "")')"
    flags="$flags ${CXXFLAGS:-} -g0"
    fast="$flags -I'$headers'"
    # All files include torch/torch.h (the whole C++ frontend: nn, optim, data) and use what is in
    # torch/script.h. A header of that name, found first, saves 40 % of the rest.
    mkdir -p "$headers/torch"
    echo '#include <torch/script.h>' >"$headers/torch/torch.h"
    # Parsing it once, not 23 times, saves half of what then remains. (Ignored by GCC if flags differ.)
    printf '#include <%s>\n' Python.h torch/script.h >"$headers/common.h"
    trap 'rm -f .setup/include/common.h.gch' EXIT  # 600 MB
    ! precompile "$headers/common.h" "$flags" >.setup/compiler.log 2>&1 ||
        fast="$fast -include '$headers/common.h'"
    # If a compiler does not take to that, then the plain way.
    compile "$fast" || { grep -qs ': error:' .setup/torch-*==*.log && compile "$flags"; } ||
        explain_compile
}

explain_compile() {
    local log pin
    for pin in $pins; do
        log=.setup/$pin.log
        ! grep -q 'Killed signal' "$log" ||
            stop "too little memory to compile $pin: MAX_JOBS=1 needs the least (details: $log)"
        ! grep -q ': error:' "$log" || stop "$pin could not be compiled (details: $log)"
        grep -qE 'Successfully built|^[^ ]+ Saved' "$log" || explain "$pin" "$log"
    done
}

# install_from PLACE: the two, from wheels there and nothing else.
install_from() {
    # shellcheck disable=SC2086
    pip install --no-index --only-binary :all: --no-deps --force-reinstall --find-links "$1" $pins \
        >.setup/extensions.log 2>&1
}

install_extensions() {
    if [ -n "${WHEELS:-}" ]; then
        say "installing torch-scatter and torch-cluster from $WHEELS"
        install_from "$WHEELS" ||
            stop "no wheels of ${pins//$'\n'/ } for Python $(version_of "$python") at $WHEELS:" \
                "check the address, or leave WHEELS out to compile them (details: .setup/extensions.log)"
    else
        kept=.setup/torch-$torch
        mkdir -p "$kept"
        install_from "$kept" || { build_extensions && install_from "$kept"; } ||
            stop "torch-scatter and torch-cluster could not be installed (details: .setup/*.log)"
    fi
    "$python" -c 'import torch_cluster, torch_scatter' >.setup/extensions.log 2>&1 ||
        stop "torch-scatter or torch-cluster does not fit PyTorch $torch, or is not for it:" \
            "check WHEELS (details: .setup/extensions.log)"
}

check_interpreter
[ -z "$only_check" ] || exit 0
mkdir -p .setup
pip --version >/dev/null 2>&1 || make_environment

say "installing PyTorch $(sed -n 's/^torch==//p' constraints.txt)"
install PyTorch torch numpy scipy setuptools wheel  # SciPy: torch-cluster imports it
torch=$("$python" -c 'import torch; print(torch.__version__)' 2>.setup/PyTorch.log) ||
    stop "PyTorch is installed and does not import (details: .setup/PyTorch.log)"

# What the two were built for: a changed pin, or another PyTorch, means installing them anew.
stamp="${pins//$'\n'/ } torch==$torch"
[ "$(cat "$venv/.extensions" 2>/dev/null)" = "$stamp" ] || install_extensions
echo "$stamp" >"$venv/.extensions"

say "installing fovigraph and what its demo and tests need"
install fovigraph -e '.[dev,demo]'
say "ready: $venv"
