"""crossbar-cluster: patches for Crossbar.io that let its clusters heal themselves.

This module imports nothing: the distribution's ``.pth`` file passes through it in every Python process.
"""

__version__ = "1.0.0"
