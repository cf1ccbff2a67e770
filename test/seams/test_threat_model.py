"""The page of the threat model names tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_test_that_the_page_names_is_there():
    named, folder = [], ""
    for path in re.findall(r"`([\w/]+\.py)`", (ROOT / "docs" / "threat-model.md").read_text()):
        folder = path.rpartition("/")[0] or folder  # a name alone is in the folder of the one before
        named.append(Path(folder, Path(path).name))
    assert len(named) > 30
    missing = [str(path) for path in named if not any((ROOT / start / path).is_file() for start in ("test", "."))]
    assert not missing
