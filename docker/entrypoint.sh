#!/bin/sh
# The entry point of the image: sees to it that a node has what it starts with, and becomes `crossbar`. What begins with
# crossbar-cluster is run as it is.
set -eu

# both files: who lacks the public one only has it made anew from the private one
make_keys() {
    [ -e "$CROSSBAR_DIR/key.priv" ] && [ -e "$CROSSBAR_DIR/key.pub" ] || crossbar "$1" keys --cbdir="$CROSSBAR_DIR" >/dev/null
}

[ "${1:-}" != crossbar-cluster ] || exec "$@"

case "${1:-} ${2:-}" in
"master start")
    # what the built-in configuration would fetch from the Internet is left out, unless there is another configuration
    mkdir -p "$CROSSBAR_DIR"
    [ -e "$CROSSBAR_DIR/config.json" ] || cp /opt/crossbar/share/master.json "$CROSSBAR_DIR/config.json"
    # by this public key nodes know their master
    if [ -n "${CROSSBAR_CLUSTER_SHOW_KEY_IN:-}" ]; then
        [ -z "${CROSSBAR_CLUSTER_KEY_FILE:-}" ] || python3 -m crossbar_cluster.node.own_key "$CROSSBAR_DIR"
        make_keys master
        cp "$CROSSBAR_DIR/key.pub" "$CROSSBAR_CLUSTER_SHOW_KEY_IN/key.pub"
    fi
    ;;
"edge start")
    make_keys edge
    # to be paired: the public key, and never the private one, goes where the master looks for those of new nodes
    if [ -n "${CROSSBAR_CLUSTER_SHOW_KEY_IN:-}" ]; then
        shown=$CROSSBAR_CLUSTER_SHOW_KEY_IN/${CROSSBAR_NODE_ID:-$(hostname)}
        mkdir -p "$shown"
        cp "$CROSSBAR_DIR/key.pub" "$shown/key.pub"
    fi
    ;;
"superuser init")
    # makes the superuser's key pair once; the public key is for the master
    [ -e "$HOME/.crossbar/default.priv" ] || crossbar shell init --yes
    cp "$HOME/.crossbar/default.pub" "$CROSSBAR_CLUSTER_SHOW_KEY_IN/default.pub"
    exit 0
    ;;
esac
# a container that was killed leaves its process id file behind, and in the next one it is the number of this process
rm -f "$CROSSBAR_DIR/node.pid"
exec crossbar "$@"
