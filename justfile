# Everything runs in the virtualenv .venv, which is made when it is missing. Without just: README.md has the plain commands.

python := env("PYTHON", "python3")
image := env("IMAGE", "crossbar-cluster")

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

# the other benches: repoint, idle, scale, storm, mesh, abuse or image_size (just bench-of storm --help)
bench-of name *args: _venv
    .venv/bin/python bench/{{name}}.py {{args}}

# the image of all nodes, for this machine (just build --build-arg BASE_IMAGE=...)
build *args:
    docker build -f docker/Dockerfile -t {{image}} {{args}} .

# the image for AMD64, on whatever machine
build_amd *args:
    docker build --platform linux/amd64 -f docker/Dockerfile -t {{image}} {{args}} .

# the image for ARM64, on whatever machine
build_arm *args:
    docker build --platform linux/arm64 -f docker/Dockerfile -t {{image}} {{args}} .

# push the image to where its name says (IMAGE=registry/name:tag just push)
push:
    docker push {{image}}

# build the image on a base made here, and try docker-compose.yml (root, Docker, debootstrap; some minutes)
test-image *args: _venv
    LAB_IMAGE_TESTS=1 .venv/bin/python -m pytest -n 0 test/image {{args}}

# render the manifests of k8s/overlays into k8s/rendered, after a change (kubectl)
k8s-render:
    for overlay in dev gke; do kubectl kustomize k8s/overlays/$overlay > k8s/rendered/$overlay.yaml || exit 1; done

# pin anew all that the image installs
lock: _venv
    .venv/bin/pip install --quiet pip-tools
    CUSTOM_COMPILE_COMMAND="just lock" .venv/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
        -c docker/constraints.txt -o docker/requirements.lock setup.py

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
