"""The key files (``key.pub``) below the directory that a master watches, and how they are read.

Nodes write there, each below a directory of its own. So what is found can be anything: nothing of it may hold the
master up. What is opened is checked after it has been opened, as it can be replaced before.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

KEY_FILE = "key.pub"
FILE_AT_MOST = 2**16  #: bytes
DIRECTORIES_AT_MOST = 10_000  #: below the one that is watched: a node that fills it up is not to stop the master
DEPTH_AT_MOST = 16  #: directories within each other


class TooManyDirectories(Exception):
    """Not all have been looked at."""


def key_files(directory: str, counts: Callable[[str], bool]) -> Iterator[str]:
    """Find all key files, in the order of their names.

    The directories in the one that is watched can be symbolic links: whoever has set it up has made them. Those further
    down are not followed.

    :param counts: whether a directory in the one that is watched is looked at, by its name.
    :raises OSError: the directory cannot be read. :raises TooManyDirectories: at the end of what is looked at.
    """
    inner = sorted(entry.path for entry in os.scandir(directory) if entry.is_dir() and counts(entry.name))
    looked_at = 0
    for top in inner:
        depth_of_top = top.count(os.sep)
        for folder, subdirectories, files in os.walk(top):
            if looked_at >= DIRECTORIES_AT_MOST:
                raise TooManyDirectories(f"what lies behind {looked_at} directories is not looked at")
            looked_at += 1
            subdirectories.sort()
            if folder.count(os.sep) - depth_of_top >= DEPTH_AT_MOST - 1:
                subdirectories.clear()
            if KEY_FILE in files:
                yield os.path.join(folder, KEY_FILE)


def read_text(file: str) -> str:
    """Read a key file; wait for nobody. It may be a symbolic link, as in what Kubernetes mounts.

    :raises OSError: :raises ValueError: it is no text, or too long.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{file} is no regular file")
        content = opened.read(FILE_AT_MOST + 1)
    if len(content) > FILE_AT_MOST:
        raise ValueError(f"it is longer than {FILE_AT_MOST} bytes")
    return content.decode("utf-8")
