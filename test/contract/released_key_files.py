"""What lies below the directory of keys that a master watches holds nobody up: nodes can write there."""

import os
from pathlib import Path

import pytest

from crossbar_cluster.control import watched_keys
from crossbar_cluster.control.records import address_in_key_file
from crossbar_cluster.control.watched_keys import Unusable

KEY = "ab" * 32
SAID = f"A title\n\npublic-key-ed25519: {KEY}\nnode-cluster-ip: 10.0.0.7\n"


def shown(directory: Path, text: str = SAID) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "key.pub").write_text(text)
    return directory


def address(directory):
    claim = address_in_key_file(KEY, str(directory))
    return claim.address if claim is not None else None


@pytest.fixture(autouse=True)
def opened(monkeypatch):
    """Fails the test, rather than hanging it, when a pipe is opened to wait for who writes into it."""
    real = os.open

    def checked(path, flags, *args, **kwargs):
        assert not Path(path).is_fifo() or flags & os.O_NONBLOCK, "it would hang"
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", checked)
    real_open = open

    def checked_open(path, *args, **kwargs):
        assert isinstance(path, int) or not Path(path).is_fifo(), "it would hang"
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr("io.open", checked_open)
    monkeypatch.setattr("builtins.open", checked_open)


def test_the_address_is_found_beside_what_is_no_file(tmp_path):
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "key.pub")
    assert address(tmp_path) is None
    shown(tmp_path / "b", "x" * 2**17 + SAID)
    shown(tmp_path / "c" / ".crossbar")
    assert address(tmp_path) == "10.0.0.7"


def test_the_address_is_not_taken_from_a_long_file(tmp_path):
    shown(tmp_path / "a", SAID + "x" * 2**17)
    assert address(tmp_path) is None


def test_links_within_are_not_followed(tmp_path):
    inner = tmp_path / "watched" / "a"
    inner.mkdir(parents=True)
    (inner / "here").symlink_to(".")
    shown(tmp_path / "elsewhere")
    (inner / "there").symlink_to(tmp_path / "elsewhere")
    assert address(tmp_path / "watched") is None
    (tmp_path / "watched" / "b").symlink_to(tmp_path / "elsewhere")  # by whoever has set up what is watched
    assert address(tmp_path / "watched") == "10.0.0.7"


def test_as_many_directories_are_looked_at_as_may_be(tmp_path, monkeypatch):
    from crossbar_cluster.control import key_files

    monkeypatch.setattr(key_files, "DIRECTORIES_AT_MOST", 5)
    for number in range(9):
        (tmp_path / f"a{number}").mkdir()
    shown(tmp_path / "b")
    assert address(tmp_path) is None


def test_what_lies_very_deep_is_not_looked_at(tmp_path):
    from crossbar_cluster.control.key_files import DEPTH_AT_MOST

    shown(tmp_path.joinpath(*["d"] * (DEPTH_AT_MOST + 3)))
    assert address(tmp_path) is None
    shown(tmp_path.joinpath(*["d"] * DEPTH_AT_MOST))
    assert address(tmp_path) == "10.0.0.7"


def test_a_key_file_that_has_become_something_else_is_unusable(tmp_path):
    os.mkfifo(tmp_path / "key.pub")
    with pytest.raises(Unusable):
        watched_keys.read(str(tmp_path / "key.pub"))


def test_a_key_file_may_be_a_link_as_in_what_kubernetes_mounts(tmp_path):
    other = shown(tmp_path / "other") / "key.pub"
    (tmp_path / "key.pub").symlink_to(other)
    assert watched_keys.read(str(tmp_path / "key.pub")).pubkey == watched_keys.read(str(other)).pubkey
