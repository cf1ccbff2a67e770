"""The patches, one module per released module that changes, at the released module's own path.

An ordinary install has the files below this package. In a checkout, and so in an editable install, they stand in the
sibling tree ``crossbar/``, which is appended to the path here. That tree is ours only if it holds no ``__init__.py``:
in site-packages the sibling of the same name is the release itself.
"""

import os

_sibling = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "crossbar")
if os.path.isdir(_sibling) and not os.path.exists(os.path.join(_sibling, "__init__.py")):
    __path__.append(_sibling)
