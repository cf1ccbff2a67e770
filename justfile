# Everything runs in the virtualenv .venv, which is made when it is missing. Without just: README.md has the plain commands.

python := env("PYTHON", "python3")

# what there is
_default:
    @{{just_executable()}} --list --unsorted --justfile {{justfile()}}

# see a cluster follow its router to another address (just demo --help)
demo *args: _venv
    .venv/bin/crossbar-cluster demo {{args}}

# run the tests (all of them as root with iproute2; just test test/core for the quick ones)
test *args: _venv
    .venv/bin/python -m pytest {{args}}

# compare the patches with the installed release
check: _venv
    .venv/bin/crossbar-cluster check

# ruff (lint and format) and mypy
lint: _venv
    .venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

# how long a recovery takes, beside the release (just bench --help)
bench *args: _venv
    .venv/bin/python bench/recovery.py {{args}}

# the other benches: repoint, idle, scale, storm or mesh (just bench-of storm --help)
bench-of name *args: _venv
    .venv/bin/python bench/{{name}}.py {{args}}

# regenerate fingerprints.json and PATCHES.md after a patch or its record has changed
fingerprints: _venv
    .venv/bin/crossbar-cluster check --write

# all that CI runs
ci:
    .ci/run

# remove the virtualenv and all that was generated
clean:
    rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
    find . -name __pycache__ -type d -prune -exec rm -rf {} +

# the virtualenv, with the tools for tests and lint
_venv:
    @test -x .venv/bin/ruff || { {{python}} -m venv .venv && .venv/bin/pip install --quiet -e '.[dev]'; }
